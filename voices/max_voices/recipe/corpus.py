"""The texts to learn from: WordNet's example sentences and glosses, and sentences of our own grammar.

WordNet's licence permits any use; the grammar is part of this repository. No other text enters.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from max_voices.recipe.grammar import sentence

WORDNET = Path("/usr/share/wordnet")  # Debian package wordnet-base
LONGEST = 30  # words: what one request to the voice may hold
_KNOWN = 5  # a word seen less often in WordNet is a rare name or a Latin species
_QUOTED = re.compile(r'"([^"]+)"')


def everyday_sentences() -> tuple[str, ...]:
    """The 100 everyday sentences that the voice is judged by; written before any training."""
    text = files("max_voices.recipe").joinpath("sentences.txt").read_text("utf-8")
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def plain(text: str) -> str:
    """The text as a test compares it: lower-case words only."""
    return " ".join(re.findall(r"[a-z']+", text.lower()))


def _clean(text: str) -> str:
    """Into the alphabet of the voice, or empty where that would change what is said."""
    text = text.lower().replace(";", ",").replace(":", ",").replace("-", " ").replace("`", "'")
    text = re.sub(r"\s+", " ", text).strip(" ,'")
    text = re.sub(r" ?([,.?!])[,.?! ]*", r"\1 ", text).strip()
    return text if re.fullmatch(r"[a-z][a-z ',.?!]*", text) else ""


def _wordnet() -> tuple[list[str], list[str], list[str]]:
    """Example sentences, definitions, and common words by themselves."""
    examples, glosses = list[str](), list[str]()
    for part in ("noun", "verb", "adj", "adv"):
        for line in (WORDNET / f"data.{part}").read_text("latin1").splitlines():
            if line.startswith("  ") or " | " not in line:
                continue  # the licence at the top of each file
            gloss = line.split(" | ", 1)[1]
            examples.extend(_QUOTED.findall(gloss))
            glosses.append(re.split(r'; |"|\(', gloss)[0])
    seen = Counter(word for text in examples + glosses for word in plain(text).split())

    def usable(texts: list[str]) -> list[str]:
        cleaned = (_clean(text) for text in texts)
        return [t for t in cleaned if t and all(seen[w] >= _KNOWN and len(w) < 16 for w in plain(t).split())]

    common = sorted(word for word, count in seen.items() if count >= 4 * _KNOWN and word.isalpha())
    return usable(examples), usable(glosses), common


def _ended(text: str, chance: random.Random) -> str:
    """Most texts end in a mark; some do not, so that the voice reads those too."""
    if text[-1] in ".?!":
        return text
    return text.rstrip(",") + chance.choice([".", ".", ".", ".", "!", "?", ""])


def texts(seed: int) -> Iterator[str]:
    """Distinct texts of 1 to 30 words without end, none of them a test sentence."""
    chance = random.Random(seed)
    taken = {plain(text) for text in everyday_sentences()}
    examples, glosses, common = _wordnet()

    def one() -> str:
        kind = chance.random()
        if kind < 0.40:
            return _ended(chance.choice(examples), chance)
        if kind < 0.48:
            return _ended(chance.choice(glosses), chance)
        if kind < 0.52:
            return _ended(" ".join(chance.sample(common, chance.choice([1, 1, 1, 2, 3]))), chance)
        return sentence(chance)

    while True:
        text = one()
        while chance.random() < (0.35 if len(text.split()) < 12 else 0.15):  # several sentences in one request
            text = f"{text.rstrip(',')} {one()}" if text[-1] in ".?!" else f"{text}, {one()}"
        key = plain(text)
        if key and key not in taken and len(text.split()) <= LONGEST:
            taken.add(key)
            yield text
