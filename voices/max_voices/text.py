"""Free text into the alphabet that the embedded voice reads."""

import re
import unicodedata
from collections.abc import Callable

from num2words import num2words  # type: ignore[import-untyped]

ALPHABET = frozenset("abcdefghijklmnopqrstuvwxyz ',.?!")

_LONGEST = 15  # digits: a longer number is read digit by digit
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny")}
_SYMBOLS = {
    "&": " and ", "%": " percent ", "@": " at ", "+": " plus ", "=": " equals ", "#": " number ", "°": " degrees ",
    "$": " dollars ", "€": " euros ", "£": " pounds ", "×": " times ",
    "÷": " divided by ", "/": " slash ",
    "½": " one half ", "¼": " one quarter ", "¾": " three quarters ",
    "ß": "ss", "æ": "ae", "ø": "o", "œ": "oe", "ł": "l",
}  # fmt: skip
_MARKS = {
    ";": ",", ":": ",", "(": ",", ")": ",", "[": ",", "]": ",", "\n": ". ", "…": ".", "—": ",", "–": ",",
    "’": "'", "‘": "'", "`": "'", "-": " ", "_": " ", "¿": "", "¡": "",
}  # fmt: skip
_ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miss",
    "dr": "doctor",
    "prof": "professor",
    "st": "saint",
    "vs": "versus",
    "etc": "et cetera",
}
_SHORT = re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.(?=\s|$|,)|\b(mr|mrs|ms|dr|prof)\b")


def spell(text: str) -> str:
    """``text`` as the voice reads it: lower-case letters, spaces and ``' , . ? !`` only.

    Numbers, ordinals, years, times, money and percentages become English words, accents are stripped,
    what cannot be read is left out; the result may be empty. Never raises.
    """
    text = unicodedata.normalize("NFC", text).lower()
    for pattern, words in _PATTERNS:
        text = pattern.sub(words, text)
    text = _SHORT.sub(lambda match: _ABBREVIATIONS[match[1] or match[2]], text)
    text = "".join(_SYMBOLS.get(character, character) for character in text)
    text = "".join(_MARKS.get(character, character) for character in text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text).lower() if c in ALPHABET or c.isspace())
    return _tidy(text)


def _tidy(text: str) -> str:
    """Single spaces; a mark follows its word at once, only one stands there; apostrophes only beside letters."""
    text = re.sub(r"(?<![a-z])'|'(?![a-z])", "", text)  # quotation marks; what is left belongs to a word
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])", " ", text)  # u.s.a, example.com
    text = re.sub(r" ?([,.?!])[ ,.?!]*", _strongest, text)
    return text.strip(" ,").lstrip(".?! ,")


def _strongest(marks: re.Match[str]) -> str:
    return next(mark for mark in "?!.," if mark in marks[0]) + " "


def _cardinal(number: str | int) -> str:
    digits = str(number).replace(",", "")
    if len(digits) > _LONGEST or (len(digits) > 1 and digits[0] == "0"):
        return " ".join(_plain(num2words(int(digit))) for digit in digits)
    return _plain(num2words(int(digits)))


def _plain(words: str) -> str:
    return words.replace("-", " ").replace(",", "")


def _number(match: re.Match[str]) -> str:
    whole, part = match[1], match[2]
    spoken = f" {_cardinal(whole or 0)}"
    if part:
        spoken += " point " + " ".join(_cardinal(digit) for digit in part)
    return spoken + " "


def _ordinal(match: re.Match[str]) -> str:
    if len(match[1]) > _LONGEST:
        return f" {_cardinal(match[1])} "
    return f" {_plain(num2words(int(match[1]), to='ordinal'))} "


def _year(match: re.Match[str]) -> str:
    spoken = _plain(num2words(int(match[1]), to="year"))
    if match[2]:  # 1990s
        spoken = spoken[:-1] + "ies" if spoken.endswith("y") else spoken + "s"
    return f" {spoken} "


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match[1]), int(match[2])
    if minute == 0:
        spoken = "o'clock" if 1 <= hour <= 12 and not match[3] else "" if match[3] else "hundred"
    else:
        spoken = ("oh " if minute < 10 else "") + _cardinal(minute)
    return f" {_cardinal(hour)} {spoken} "


def _money(match: re.Match[str]) -> str:
    (unit, small), whole, part = _MONEY[match[1]], match[2].replace(",", ""), match[3]
    if match[4]:  # $3.5 million
        point = " point " + " ".join(_cardinal(digit) for digit in part) if part else ""
        return f" {_cardinal(whole)}{point} {match[4].strip()} {unit}s "
    spoken = f" {_cardinal(whole)} {unit}{'' if whole == '1' else 's'} "
    if part and int(part):
        cents = int(part.ljust(2, "0")[:2])
        several = "pence" if small == "penny" else f"{small}s"
        spoken += f"and {_cardinal(cents)} {small if cents == 1 else several} "
    return spoken


# In this order: what is more particular first. ASCII digits only: others are read as nothing.
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"([$€£])\s?([0-9][0-9,]*)(?:\.([0-9]+))?(\s(?:thousand|million|billion|trillion)\b)?"), _money),
    (re.compile(r"(?<=[0-9])\s?([ap])\.?\s?m\b\.?"), lambda match: f" {match[1]} m "),
    (re.compile(r"\b([01]?[0-9]|2[0-3]):([0-5][0-9])(?![0-9:])(?=(\s[ap] m )?)"), _time),
    (re.compile(r"\b([0-9]+)(?:st|nd|rd|th)\b"), _ordinal),
    (re.compile(r"(?<![0-9.,])\b(1[1-9][0-9]{2}|20[0-9]{2})(s?)\b(?![.,]?[0-9]|\s?%)"), _year),
    (re.compile(r"(?<![0-9a-z])-(?=[0-9])"), lambda match: " minus "),
    (re.compile(r"(?=\.?[0-9])([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.([0-9]+))?"), _number),
)
