"""Words that are written shorter than they are said."""

from __future__ import annotations

import re

from max_voices.normalizing.borders import ends_sentence

_TITLES = {
    "mr": "mister", "mrs": "missus", "ms": "miss", "dr": "doctor", "prof": "professor",
}  # fmt: skip
_WITH_STOP = _TITLES | {
    "vs": "versus", "etc": "et cetera", "approx": "approximately", "dept": "department", "est": "established",
    "fig": "figure", "vol": "volume", "jr": "junior", "sr": "senior", "inc": "incorporated", "ltd": "limited",
    "corp": "corporation", "ave": "avenue", "rd": "road", "blvd": "boulevard", "gov": "governor", "gen": "general",
    "capt": "captain", "lt": "lieutenant", "sgt": "sergeant", "rev": "reverend", "sen": "senator", "mt": "mount",
    "st": "saint",
}  # fmt: skip
_AT_THE_END = frozenset(("etc", "jr", "sr", "inc", "ltd", "corp", "ave", "rd", "blvd", "st"))
_BEFORE_NUMBER = {"no": "number", "nos": "numbers", "p": "page", "pp": "pages", "ch": "chapter", "sec": "section"}
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50}
_NOISES = frozenset(("HMM", "SHH", "PSST", "BRR", "MMM", "TSK", "PFFT", "GRR", "SHHH"))

LATIN = re.compile(r"\b([Ee]\.\s?g|[Ii]\.\s?e)\b\.?,?")
SHORT = re.compile(rf"\b(?:({'|'.join(_WITH_STOP)})\.(?!\w)|({'|'.join(_TITLES)})\b)", re.IGNORECASE)
NUMBERED = re.compile(rf"\b({'|'.join(_BEFORE_NUMBER)})\.\s?(?=[0-9])", re.IGNORECASE)
ROMAN = re.compile(r"\b(Chapter|Part|Volume|Act|Section|Book|World War|Phase) ([IVXL]{1,7})\b")
INITIALS = re.compile(r"(?<![\w.])((?:[A-Za-z]\.){2,12})(?!\w)|(?<![\w.])((?:[A-Z]\.){1,12}[A-Z])(?![\w.])")
LETTERS = re.compile(r"\b[B-DF-HJ-NP-TV-XZ]{2,6}\b")


def latin(match: re.Match[str]) -> str:
    """e.g. and i.e."""
    return "for example," if match[1][0] in "eE" else "that is,"


def short(match: re.Match[str]) -> str:
    """Mr., Dr, etc.; the full stop stays where it ends the sentence, too."""
    written = match[1] or match[2]
    word = _WITH_STOP[written.lower()]
    if written.lower() == "st" and re.search(
        r"[A-Z][a-z]+ $", match.string[max(0, match.start() - 40) : match.start()]
    ):
        word = "street"
    ends = match[1] and written.lower() in _AT_THE_END and word != "saint" and ends_sentence(match)
    return _like(written, word) + ("." if ends else "")


def numbered(match: re.Match[str]) -> str:
    """No. 7, pp. 3."""
    return _like(match[1], _BEFORE_NUMBER[match[1].lower()]) + " "


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
    return match[0] if match[0] in _NOISES else " ".join(match[0])


def _like(written: str, word: str) -> str:
    return word.capitalize() if written[0].isupper() else word
