"""Words that are written shorter than they are said."""

from __future__ import annotations

import re

from max_voices.abbreviations import ANYWHERE, BEFORE_NAMES, BEFORE_NUMBERS, BEHIND_NAMES, TITLES
from max_voices.normalizing.borders import begins_another, ends_sentence

_WITH_STOP = BEFORE_NAMES | BEHIND_NAMES | ANYWHERE
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}
_NOISE = re.compile(r"HM{2,}|SH{2,}|PS{2,}T|BR{2,}|M{3,}|TSK|PF{2,}T|GR{2,}")
_NUMBER_BEHIND = re.compile(r"\s?[0-9]")
_NAME_BEHIND = re.compile(r"\s[A-Z]")
_STREET_BEFORE = re.compile(r"(?:\b[0-9]{1,6}(?:st|nd|rd|th)?|\b[A-Z][a-z]+) $")
_HOUSE_BEFORE = re.compile(r"\b[0-9]{1,6}(?:st|nd|rd|th)?(?: [A-Z][a-z]*\.?){0,3} $")

LATIN = re.compile(r"\b([Ee]\.\s?g|[Ii]\.\s?e)\b\.?,?")
SHORT = re.compile(
    rf"\b(?i:({'|'.join(_WITH_STOP)}))\.(?!\w)|(?<![\w&])({'|'.join(map(str.capitalize, TITLES))})(?= [A-Z])"
)
NUMBERED = re.compile(rf"\b({'|'.join(BEFORE_NUMBERS)})\.\s?(?=[0-9])", re.IGNORECASE)
ROMAN = re.compile(r"\b(Chapter|Part|Volume|Act|Section|Book|World War|Phase) ([IVXL]{1,7})\b")
INITIALS = re.compile(r"(?<![\w.])((?:[A-Za-z]\.){2,12})(?!\w)|(?<![\w.])((?:[A-Z]\.){1,12}[A-Z])(?![\w.])")
LETTERS = re.compile(r"\b[B-DF-HJ-NP-TV-XZ]{2,6}\b")


def latin(match: re.Match[str]) -> str:
    """e.g. and i.e."""
    return "for example," if match[1][0] in "eE" else "that is,"


def short(match: re.Match[str]) -> str:
    """Mr., Dr, etc.; the full stop stays where it ends the sentence, too."""
    written = match[1] or match[2]
    name = written.lower()
    if name == "st":
        return _saint_or_street(match, written)
    word = written if name == "fig" and not _NUMBER_BEHIND.match(match.string, match.end()) else _WITH_STOP[name]
    if name in BEFORE_NAMES:
        return _like(written, word)
    ends = ends_sentence(match) if name in BEHIND_NAMES or name == "etc" else begins_another(match)
    return _like(written, word) + ("." if ends else "")


def _saint_or_street(match: re.Match[str], written: str) -> str:
    """A street ends its sentence or has a lower-case word behind it; a saint has a name there."""
    before = match.string[max(0, match.start() - 40) : match.start()]
    ends = begins_another(match)
    named = _NAME_BEHIND.match(match.string, match.end()) and not ends
    street = (_HOUSE_BEFORE if named else _STREET_BEFORE).search(before)
    return _like(written, "street") + ("." if ends else "") if street else _like(written, "saint")


def numbered(match: re.Match[str]) -> str:
    """No. 7, pp. 3."""
    return _like(match[1], BEFORE_NUMBERS[match[1].lower()]) + " "


def roman(match: re.Match[str]) -> str:
    """Chapter IV: a number, which is read by itself."""
    values = [_ROMAN[letter] for letter in match[2]]
    following = [*values[1:], 0]
    number = sum(-one if one < after else one for one, after in zip(values, following, strict=True))
    return f"{match[1]} {number}"


def initials(match: re.Match[str]) -> str:
    """U.S.A., letter by letter; the full stop stays where the text ends."""
    letters = " ".join((match[1] or match[2]).replace(".", ""))
    return letters + ("." if match[1] and ends_sentence(match) else "")


def letters(match: re.Match[str]) -> str:
    """TV, BBC: what has no vowel is spelled, unless it is a noise."""
    return match[0] if _NOISE.fullmatch(match[0]) else " ".join(match[0])


def _like(written: str, word: str) -> str:
    return word.capitalize() if written[0].isupper() else word
