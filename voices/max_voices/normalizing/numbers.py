"""Numbers in words."""

from __future__ import annotations

from num2words import num2words  # type: ignore[import-untyped]

LONGEST = 15  # digits: a longer number is read digit by digit
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"  # as it is written: 1,234 or 1234
DECIMAL = rf"(?:{NUMBER}(?:\.[0-9]+)?|\.[0-9]+)"


def cardinal(number: str) -> str:
    """A whole number, with commas or without; one that is long, or begins with 0, digit by digit."""
    digits = number.replace(",", "")
    if len(digits) > LONGEST or (len(digits) > 1 and digits[0] == "0"):
        return one_by_one(digits)
    return _plain(num2words(int(digits)))


def decimal(number: str) -> str:
    """A number that may have a point in it: 3.14, .5."""
    whole, _, part = number.partition(".")
    spoken = cardinal(whole or "0")
    return f"{spoken} point {one_by_one(part)}" if part else spoken


def ordinal(number: str) -> str:
    """first, second, third; a long one is a cardinal."""
    digits = number.replace(",", "")
    if len(digits) > LONGEST:
        return cardinal(digits)
    return _plain(num2words(int(digits), to="ordinal"))


def year(number: str) -> str:
    """1942 as nineteen forty two, 2005 as two thousand and five."""
    return _plain(num2words(int(number), to="year"))


def decade(number: str) -> str:
    """1990s and 90s, without the s."""
    return _several(year(number) if len(number) == 4 else cardinal(number))


def model(number: str) -> str:
    """The three digits of something's name: 747 as seven forty seven."""
    return cardinal(number) if number[1] == "0" else f"{cardinal(number[0])} {cardinal(number[1:])}"


def models(number: str) -> str:
    """747s."""
    return _several(model(number))


def one_by_one(digits: str) -> str:
    """Each digit by its name."""
    return " ".join(_DIGITS[int(digit)] for digit in digits)


def is_one(number: str) -> bool:
    """Whether what is counted stands in the singular."""
    return number.lstrip("0") == "1"


def _several(spoken: str) -> str:
    if spoken.endswith("y"):
        return spoken[:-1] + "ies"
    return spoken + ("es" if spoken.endswith("x") else "s")


def _plain(words: str) -> str:
    return words.replace("-", " ").replace(",", "")


_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
