"""Cutting a text into parts that can be spoken one by one: at sentences, then clauses, then words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from max_voices.abbreviations import BEFORE_NUMBERS, NEVER_LAST, PERHAPS_LAST

Inside = Callable[[str, str], bool]  # of a text up to a border and the character behind it: it is no border
# Looked for from the first mark of a run only: from each of them, a long run without an end would take its square.
SENTENCE_END = re.compile(r"""(?<![.!?…])[.!?…]+["'”’)\]]*\s+|\n\s*\n""")
CLAUSE_END = re.compile(r"""(?<![,;:–—])[,;:–—]+["'”’)\]]*\s+|\n+""")
_WORD_END = re.compile(r"\s+")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*\Z")
_INITIALS = re.compile(r"(?:[a-z]\.){1,11}[a-z]")  # a.m., u.s.
_MARGIN = 8  # words that pieces may make more together than apart: "$5.00" and "million" are three and six


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text. Where it is `joined` its sentence goes on, and its sound in the next part's, without a seam.

    `followed` says that it is known to go on: there are more words of it.
    """

    text: str
    joined: bool = False
    followed: bool = False


def split_text(text: str, max_words: int, count: Callable[[str], int] = lambda part: len(part.split())) -> list[Part]:
    """Sentences, those of more than `max_words` cut at clauses and, where that does not do, between words.

    Words are counted by `count`, which may know how many words "1942" makes; a piece without any adds none to the text
    that it stands in. 0 for `max_words` sets no limit. Nothing is lost: the parts hold every word of the text, in
    order. A single word above the limit stays whole.
    """
    sentences = [Part(piece) for piece in _pieces(text, SENTENCE_END, is_abbreviation)]
    if not max_words:
        return sentences
    return [part for sentence in sentences for part in _fit(sentence, max_words, count)]


def _fit(sentence: Part, max_words: int, count: Callable[[str], int]) -> Iterator[Part]:
    if count(sentence.text) <= max_words:
        yield sentence
        return
    clauses = list(_gather(_pieces(sentence.text, CLAUSE_END), max_words, count))
    for number, clause in enumerate(clauses):
        last_clause = number + 1 == len(clauses)
        if count(clause) <= max_words:
            yield _within(sentence, clause, last_clause)
            continue
        runs = list(_gather(_pieces(clause, _WORD_END), max_words, count))
        for index, run in enumerate(runs):
            yield _within(sentence, run, last_clause and index + 1 == len(runs))


def _within(sentence: Part, text: str, last: bool) -> Part:
    """A part of a sentence."""
    return replace(sentence, text=text) if last else Part(text, joined=True, followed=True)


def _gather(pieces: Iterator[str], max_words: int, count: Callable[[str], int]) -> Iterator[str]:
    """Neighbouring pieces together, as long as they fit.

    They are counted together, for "$5" and "million" are not two numbers; but while their sum is far from what still
    fits, it will do. Only a piece with a word can change that count; of a run of others a single character is counted
    along: they may be most of a text.
    """
    held: list[str] = []
    counted: list[str] = []  # what stands for it
    words = 0  # in it, when it was counted last
    more = 0  # words in what has come since, one by one
    wordless = False  # its end
    for piece in pieces:
        own = count(piece)
        more += own
        if own and 2 * more + _MARGIN > max_words - words:
            words, more = (count(" ".join([*counted, piece])) if held else own), 0
        if held and words > max_words:
            yield " ".join(held)
            held, counted, words = [], [], own
        if own or not (held and wordless):
            counted.append(piece if own else piece[:1])
        held.append(piece)
        wordless = not own
    if held:
        yield " ".join(held)


def _pieces(text: str, border: re.Pattern[str], inside: Inside = lambda text, after: False) -> Iterator[str]:
    """The text cut behind each border; `inside` says that what looks like a border is none."""
    start = 0
    for end in ends(text, border, inside):
        yield text[start:end].strip()
        start = end
    rest = text[start:].strip()
    if rest:
        yield rest


def ends(text: str, border: re.Pattern[str], inside: Inside = lambda text, after: False) -> Iterator[int]:
    """Where pieces end. Each border ends in white space, so that the last word is behind the border before."""
    before = 0
    for match in border.finditer(text):
        end = text[before : match.end()]
        before = match.end()
        if not end.isspace() and not inside(end, text[before : before + 1]):
            yield before


def is_abbreviation(text: str, after: str) -> bool:
    """Whether the full stop at the end of `text` belongs to a word such as `Mr.`, or to an initial.

    Of some words it may be the sentence's, too: what comes `after` the white space behind it tells. While nothing has
    come yet, it is not taken for the sentence's.
    """
    word = text.split()[-1]
    bare = bare_word(word)
    if not word.endswith("."):
        return False
    if bare in NEVER_LAST or (len(bare) == 1 and bare.isalpha() and bare != "i"):
        return True
    if not (bare in BEFORE_NUMBERS or bare in PERHAPS_LAST or _INITIALS.fullmatch(bare)):
        return False
    if _PARAGRAPH_END.search(text, len(text.rstrip())):
        return False
    return not after or after.isdecimal() or (after.islower() and bare not in BEFORE_NUMBERS)


def bare_word(word: str) -> str:
    """As tables hold it: without marks around it, in lower case."""
    return word.lstrip("\"'“‘([").rstrip(".").lower()
