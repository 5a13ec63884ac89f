"""Text as a speech model reads it: written out in words, and for the embedded voice in the letters that it knows."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from max_voices.normalizing import normalize

ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz ',.?!")

_LETTERS = {"ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l"}
_MARKS = {
    ";": ",", ":": ",", "(": ",", ")": ",", "[": ",", "]": ",", "\n": ". ", "…": ".", "—": ",", "–": ",",
    "’": "'", "‘": "'", "`": "'", "-": " ", "_": " ", "¿": "", "¡": "",
}  # fmt: skip
_AS_WRITTEN = str.maketrans(_LETTERS | _MARKS)


def spell(text: str) -> str:
    """``text`` as the embedded voice reads it, everything written out: `normalize`, then `reduce`. Never raises."""
    return reduce(normalize(text))


def reduce(text: str) -> str:
    """``text`` in lower-case letters, spaces and ``' , . ? !`` only.

    Accents are stripped, what cannot be read is left out; the result may be empty. Never raises.
    """
    text = unicodedata.normalize("NFC", text).lower().translate(_AS_WRITTEN)
    text = "".join(c for c in unicodedata.normalize("NFKD", text).lower() if c in ALPHABET or c.isspace())
    return _tidy(text)


def read(text: str, *, normalized: bool, spelled: bool, tags: Sequence[str] = ()) -> str:
    """``text`` as a model is given it: `normalized` or as it is, for a model with an alphabet `spelled` in it."""
    text = normalize(text, tags) if normalized else text
    return reduce(text) if spelled else text


def _tidy(text: str) -> str:
    """Single spaces; a mark follows its word at once, only one stands there; apostrophes only beside letters."""
    text = re.sub(r"(?<![a-z])'|'(?![a-z])", "", text)  # quotation marks; what is left belongs to a word
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])", " ", text)  # node.js
    text = re.sub(r" ?([,.?!])[ ,.?!]*", _strongest, text)
    return text.strip(" ,").lstrip(".?! ,")


def _strongest(marks: re.Match[str]) -> str:
    return next(mark for mark in "?!.," if mark in marks[0]) + " "
