"""Dates, times of day, years."""

from __future__ import annotations

import re
from calendar import monthrange

from max_voices.abbreviations import MONTHS, SHORT_MONTHS
from max_voices.normalizing.borders import ends_sentence
from max_voices.normalizing.numbers import cardinal, decade, ordinal
from max_voices.normalizing.numbers import year as year_in_words

_NAME = rf"(?:{'|'.join(MONTHS)}|(?:{'|'.join(SHORT_MONTHS)})\b\.?)"
_DAY = r"(?:3[01]|[12][0-9]|0?[1-9])"
_YEAR = r"(?:1[0-9]{3}|20[0-9]{2})"
_IN = re.compile(r"\b[Ii]n $")
_LEAP = 2000  # for a date without a year
_END = r"(?![\w:]|[.,/-][0-9])"

ISO_DATE = re.compile(rf"(?<![\w/.-])({_YEAR})([/-])(1[0-2]|0[1-9])\2({_DAY}){_END}")
SLASHED_DATE = re.compile(rf"(?<![\w/.-])({_DAY})/({_DAY})/({_YEAR}|[0-9]{{2}}){_END}")
DOTTED_DATE = re.compile(rf"(?<![\w/.-])({_DAY})\.(1[0-2]|0?[1-9])\.({_YEAR}){_END}")
MONTH_DAY = re.compile(rf"\b({_NAME}) ({_DAY})(st|nd|rd|th)?(?:(,?) ({_YEAR}))?{_END}")
ON_DAY = re.compile(rf"\b([Oo]n )(1[0-2]|0?[1-9])/({_DAY})(?![\w/-]|[.,:][0-9]| of\b| time\b)")
MONTH_YEAR = re.compile(rf"\b({_NAME}) ({_YEAR}){_END}")
DAY_MONTH = re.compile(rf"(?<![\w:/.,-])({_DAY})(?:st|nd|rd|th)? (?:of )?({_NAME})(?:(,?) ({_YEAR}){_END})?(?!\w)")
TIME = re.compile(
    r"(?<![\w:.,])([01]?[0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?(?![0-9:])(?: ?([AaPp])\.? ?[Mm]\b\.?)?"
)
HOUR = re.compile(r"(?<![\w:.,])(1[0-2]|0?[1-9]) ?([AaPp])\.? ?[Mm]\b\.?")
# Before a number that would be a decade: what says how long something takes.
SECONDS = re.compile(
    r"\b((?i:wait(?:s|ed|ing)?|after|within|every|takes?|took|lasts?|lasted) |"
    r"(?i:for|in) (?=[0-9]+s(?:[.,;:!?]|$| (?:and|or|then)\b)))([2-9]0)s\b"
)
DECADE = re.compile(r"(?<![\w.,])['’]?((?:1[1-9]|20)[0-9]0|[2-9]0)'?s\b")
YEAR = re.compile(r"(?<![\w.,'])(1[1-9][0-9]{2}|20[0-9]{2})\b(?![.,]?[0-9]|\s?%)")


def iso_date(match: re.Match[str]) -> str:
    """2026-11-30; 2026-02-30 is no date."""
    return _date(match[4], int(match[3]), match[1]) or match[0]


def slashed_date(match: re.Match[str]) -> str:
    """11/30/2026; the month stands first, as in America, unless it cannot."""
    first, second = int(match[1]), int(match[2])
    month, day = (first, second) if first <= 12 else (second, first)
    return (_date(str(day), month, match[3]) if month <= 12 else "") or match[0]


def dotted_date(match: re.Match[str]) -> str:
    """30.11.2026."""
    return _date(match[1], int(match[2]), match[3]) or match[0]


def month_day(match: re.Match[str]) -> str:
    """Nov. 30, 2026. In May 20 people came: a day would have "on" before it."""
    if _IN.search(match.string[max(0, match.start() - 4) : match.start()]) and not (match[3] or match[5]):
        return f"{_month(match[1])} {cardinal(match[2])}"
    return f"{_month(match[1])} {ordinal(match[2])}" + _of_year(match[5], match[4])


def on_day(match: re.Match[str]) -> str:
    """on 12/25."""
    return match[1] + (_date(match[3], int(match[2])) or match[0].removeprefix(match[1]))


def month_year(match: re.Match[str]) -> str:
    """Nov. 2026."""
    return f"{_month(match[1])} {year_in_words(match[2])}"


def day_month(match: re.Match[str]) -> str:
    """30 November 2026."""
    return f"{ordinal(match[1])} of {_month(match[2])}" + _of_year(match[4], match[3])


def time(match: re.Match[str]) -> str:
    """10:05 a.m.: ten oh five A M."""
    hour, minute, second, half = match.groups()
    words = [cardinal(hour.lstrip("0") or "0")]
    if int(minute) or second:
        words.append(_minutes(minute))
    elif not half:
        words.append("o'clock" if 1 <= int(hour) <= 12 else "hundred")
    if second:
        words.append(f"and {cardinal(second.lstrip('0') or '0')} seconds")
    return " ".join([*words, *_half(half)]) + _stop(match)


def hour(match: re.Match[str]) -> str:
    """5pm."""
    return " ".join([cardinal(match[1].lstrip("0")), *_half(match[2])]) + _stop(match)


def seconds(match: re.Match[str]) -> str:
    """Wait 30s."""
    return f"{match[1]}{cardinal(match[2])} seconds"


def decade_of(match: re.Match[str]) -> str:
    """the 1990s, the '90s."""
    return decade(match[1])


def year(match: re.Match[str]) -> str:
    """1942."""
    return year_in_words(match[1])


def _date(day: str, month: int, year: str | None = None) -> str:
    """Nothing where the month has no such day."""
    if int(day) > monthrange(int(year) if year else _LEAP, month)[1]:
        return ""
    return f"{MONTHS[month - 1]} {ordinal(day)}" + _of_year(year, ",")


def _of_year(year: str | None, comma: str) -> str:
    if not year:
        return ""
    return f"{comma} {year_in_words(year) if len(year) == 4 else _minutes(year)}"


def _month(name: str) -> str:
    return SHORT_MONTHS.get(name.rstrip("."), name)


def _minutes(digits: str) -> str:
    if digits == "00":
        return "hundred"
    return f"oh {cardinal(digits[1])}" if digits[0] == "0" else cardinal(digits)


def _stop(match: re.Match[str]) -> str:
    """The full stop of a.m. where it is the sentence's, too."""
    return "." if match[0].endswith(".") and ends_sentence(match) else ""


def _half(letter: str | None) -> list[str]:
    return [letter.upper(), "M"] if letter else []
