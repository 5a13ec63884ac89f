"""The rules in their order, around what must not be touched."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby

from max_voices.normalizing import abbreviations, addresses, calendar, quantities
from max_voices.normalizing.borders import apart
from max_voices.normalizing.numbers import DECIMAL, cardinal, decimal, ordinal

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

_SYMBOLS = {
    "&": "and", "%": "percent", "@": "at", "+": "plus", "=": "equals", "°": "degrees", "$": "dollars", "€": "euros",
    "£": "pounds", "¥": "yen", "₹": "rupees", "×": "times", "÷": "divided by", "/": "slash", "±": "plus or minus",
    "≈": "about", "≠": "does not equal", "≤": "at most", "≥": "at least", "→": "to", "²": "squared", "³": "cubed",
}  # fmt: skip
_SILENT = re.compile(r"[*`|\\^{}#]+")  # how text is set, not what it says
_LEFT_OUT = "\0"  # stands for what nobody says until it is known what is beside it
_UNHEARD = frozenset(("Cc", "Cs", "Co", "Cn", "So"))  # control characters, pictures, what nobody has defined

_VARIANTS = frozenset(map(chr, (*range(0xFE00, 0xFE10), *range(0x1F3FB, 0x1F400))))  # of a picture

# What is more particular comes first. A rule gets the whole text, and says what stands in the place of its match.
_RULES: tuple[Rule, ...] = (
    (addresses.EMAIL, addresses.email),
    (addresses.URL, addresses.url),
    (abbreviations.LATIN, abbreviations.latin),
    (abbreviations.ROMAN, abbreviations.roman),
    (calendar.ISO_DATE, calendar.iso_date),
    (calendar.SLASHED_DATE, calendar.slashed_date),
    (calendar.DOTTED_DATE, calendar.dotted_date),
    (calendar.MONTH_DAY, calendar.month_day),
    (calendar.ON_DAY, calendar.on_day),
    (calendar.MONTH_YEAR, calendar.month_year),
    (calendar.DAY_MONTH, calendar.day_month),
    (addresses.PHONE, addresses.phone),
    (re.compile(r"(?<=[0-9]) ?[–-] ?(?=[0-9]{1,2}(?::[0-9]{2})? ?[AaPp]\.? ?[Mm]\b)"), lambda match: " to "),
    (re.compile(r"(?<=[0-9])( ?[AaPp]\.?[Mm]\.?) ?[–-] ?(?=[0-9])"), lambda match: f"{match[1]} to "),
    (calendar.TIME, calendar.time),
    (calendar.HOUR, calendar.hour),
    (quantities.MONEY_RANGE, quantities.money_range),
    (quantities.MONEY, quantities.money),
    (quantities.MONEY_BEHIND, quantities.money_behind),
    (quantities.AIRLINER, quantities.airliner),
    (quantities.RANGE, quantities.range_of),
    (re.compile(r"(?<![\w.)\]-])[-−](?=\.?[0-9])"), lambda match: "minus "),
    (quantities.ROUND, quantities.round_number),
    (quantities.MODEL_S, quantities.model_s),
    (quantities.MODELS, quantities.several_models),
    (calendar.SECONDS, calendar.seconds),
    (calendar.DECADE, calendar.decade_of),
    (quantities.HEIGHT, quantities.height),
    (quantities.INCHES, quantities.inches),
    (quantities.MEASURE, quantities.measure),
    (quantities.VULGAR, quantities.vulgar),
    (quantities.FRACTION, quantities.fraction),
    (re.compile(r"(?<!\w)#(?=[0-9])"), lambda match: "number "),
    (abbreviations.NUMBERED, abbreviations.numbered),
    (abbreviations.SHORT, abbreviations.short),
    (abbreviations.INITIALS, abbreviations.initials),
    (abbreviations.LETTERS, abbreviations.letters),
    (re.compile(r"(?<![\w.,])([0-9]+)(?:st|nd|rd|th)\b"), lambda match: ordinal(match[1])),
    (calendar.YEAR, calendar.year),
    (re.compile(r"(?<=[0-9]) ?[x*] ?(?=[0-9])"), lambda match: " times "),
    (re.compile(r"(?<![0-9.])[0-9]+(?:\.[0-9]+){2,}(?!\w)"), lambda match: _dotted(match[0])),
    (re.compile(rf"(?<![0-9.]){DECIMAL}|[0-9]+"), lambda match: decimal(match[0])),
    (re.compile(r"~(?=\s?[a-z])"), lambda match: "about "),
    (re.compile(r"(?<!\w)#(?=\w)"), lambda match: "hashtag "),
    (re.compile(r"(?<=\b[CF])#"), lambda match: " sharp"),
)  # fmt: skip
_SYMBOL = re.compile(f"[{re.escape(''.join(_SYMBOLS))}]+")

_MARK = re.compile(r"[.,!?;:](?!\w)")


def normalize(text: str, tags: Sequence[str] = ()) -> str:
    """`text` with everything written out that is said otherwise than written; `tags` in it stay as they are.

    Control characters, pictures and marks of layout are left out; the result may be empty. Never raises.
    """
    text = quantities.mark_inches(text)  # a quotation may go on behind a tag
    if not tags:
        return _written_out(text)
    pieces = re.split(f"({'|'.join(map(re.escape, tags))})", text, flags=re.IGNORECASE)
    return _joined([piece if index % 2 else _written_out(piece) for index, piece in enumerate(pieces)])


def _written_out(text: str) -> str:
    text = "".join(map(_readable, unicodedata.normalize("NFC", text)))
    text = re.sub(f"{_LEFT_OUT}+", _gap, text)
    for pattern, say in _RULES:
        text = pattern.sub(lambda match, say=say: apart(match, say(match)), text)  # type: ignore[misc]
    text = _SYMBOL.sub(lambda match: apart(match, _named(match[0])), text)
    return re.sub(r"[ \t]+", " ", _SILENT.sub(_gap, text)).strip(" ")


def _gap(match: re.Match[str]) -> str:
    """For what is left out: a space where it stood between words."""
    before, after = match.string[max(0, match.start() - 1) : match.start()], match.string[match.end() : match.end() + 1]
    return " " if before.isalnum() and after.isalnum() else ""


def _named(symbols: str) -> str:
    """C++: plus plus; another symbol that is repeated, as in a == b, is named once."""
    runs = ((symbol, len(list(run))) for symbol, run in groupby(symbols))
    return " ".join(_SYMBOLS[symbol] for symbol, length in runs for _ in range(length if symbol == "+" else 1))


def _readable(character: str) -> str:
    """White space and digits in one form each; nothing for what shapes its neighbours alone."""
    if character.isspace():
        return "\n" if character in "\n\r\v\f\x85\u2028\u2029" else " "
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    category = unicodedata.category(character)
    if character in _VARIANTS or category == "Cf":
        return ""
    return _LEFT_OUT if category in _UNHEARD and character not in _SYMBOLS else character


def _joined(pieces: Sequence[str]) -> str:
    """A space between neighbours, unless the next begins with a mark."""
    spoken = [piece for piece in pieces if piece]
    return "".join(spoken[:1] + [piece if _MARK.match(piece) else f" {piece}" for piece in spoken[1:]])


def _dotted(number: str) -> str:
    return " point ".join(cardinal(part) for part in number.split("."))
