"""How much of something: money, units, fractions, ranges."""

from __future__ import annotations

import re

from max_voices.normalizing.numbers import (
    DECIMAL,
    NUMBER,
    cardinal,
    decimal,
    is_one,
    model,
    models,
    one_by_one,
    ordinal,
)

_CURRENCIES = {
    "$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", ""), "₹": ("rupee", "paisa"),
    "USD": ("U S dollar", "cent"), "EUR": ("euro", "cent"), "GBP": ("pound", "penny"), "JPY": ("yen", ""),
    "CHF": ("Swiss franc", "centime"), "CAD": ("Canadian dollar", "cent"), "AUD": ("Australian dollar", "cent"),
}  # fmt: skip
_ALIKE = {"yen": "yen", "penny": "pence", "paisa": "paise", "foot": "feet", "inch": "inches", "hertz": "hertz"}
_SCALES = {"k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "tn": "trillion"}
_SCALE = r"(?:\s?(k|mn?|bn?|tn|K|M|B|thousand|million|billion|trillion)\b)?"
_SIGN = r"(?:US|CA|A|C)?([$€£¥₹])\s?|\b(USD|EUR|GBP|JPY|CHF|CAD|AUD)\s?"

MONEY = re.compile(rf"(?:{_SIGN})({NUMBER})(?:\.([0-9]+))?{_SCALE}")
MONEY_RANGE = re.compile(rf"({_SIGN})({NUMBER})[–-](?:[$€£¥₹]\s?)?(?=[0-9,]{{1,20}}(?![0-9,]|[–-][0-9]))")
MONEY_BEHIND = re.compile(rf"(?<![\w.,])({NUMBER})(?:\.([0-9]+))?{_SCALE}\s?(€|£|¥|(?:USD|EUR|GBP|JPY|CHF|CAD|AUD)\b)")

_UNITS = {
    "mm": "millimeter", "cm": "centimeter", "m": "meter", "km": "kilometer", "mi": "mile", "ft": "foot", "yd": "yard",
    "mg": "milligram", "g": "gram", "kg": "kilogram", "lb": "pound", "lbs": "pound", "oz": "ounce",
    "ml": "milliliter", "mL": "milliliter", "l": "liter", "L": "liter",
    "ms": "millisecond", "s": "second", "sec": "second", "secs": "second", "min": "minute", "mins": "minute",
    "h": "hour", "hr": "hour", "hrs": "hour",
    "KB": "kilobyte", "kB": "kilobyte", "MB": "megabyte", "GB": "gigabyte", "TB": "terabyte",
    "Hz": "hertz", "kHz": "kilohertz", "MHz": "megahertz", "GHz": "gigahertz",
    "W": "watt", "kW": "kilowatt", "MW": "megawatt", "kWh": "kilowatt hour", "V": "volt", "kV": "kilovolt",
    "mAh": "milliamp hour", "dB": "decibel", "kcal": "kilocalorie",
    "m²": "square meter", "m2": "square meter", "km²": "square kilometer", "km2": "square kilometer",
    "sq ft": "square foot", "m³": "cubic meter", "m3": "cubic meter",
    "mph": "mile per hour", "kph": "kilometer per hour", "km/h": "kilometer per hour", "kmh": "kilometer per hour",
    "m/s": "meter per second", "Mbps": "megabit per second", "Gbps": "gigabit per second",
    "°C": "degree Celsius", "°F": "degree Fahrenheit", "°": "degree", "ºC": "degree Celsius", "ºF": "degree Fahrenheit",
}  # fmt: skip
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
MEASURE = re.compile(rf"(?<![\w.,])({DECIMAL})[ -]?({_UNIT})(?![\w/²³])")
ROUND = re.compile(r"(?<![\w.,])(10|100|1,?000)s(?= of\b)")
_ROUND = {"10": "tens", "100": "hundreds", "1000": "thousands"}
MODEL_S = re.compile(r"\b([a-z]{1,20}[A-Z][a-z]{1,20} )([0-9]{1,3})s\b")
MODELS = re.compile(
    r"\b((?i:two|three|four|five|six|seven|eight|nine|ten|several|many|few|both|these|those) )([1-9][0-9]{2})s\b"
)
AIRLINER = re.compile(r"(?<![\w.,/–-])(7[0-9]7)-([1-9]00)(?![\w/–-]|[.,][0-9])")
HEIGHT = re.compile(r"(?<![\w.,])([0-9]{1,2})['’′] ?([0-9]{1,2})(?:\"|”|″|'')")
INCHES = re.compile(rf"(?<![\w.,\"])({DECIMAL})″")
_QUOTE = re.compile(rf"((?<![\w.,\"]){DECIMAL})?\"")

FRACTION = re.compile(r"(?<![\w/.,-])(?:([0-9]+) )?([0-9]{1,3})/([0-9]{1,3})(?![\w/]|[.,][0-9])")
RANGE = re.compile(rf"(?<![\w.,/–-])({DECIMAL})(?:\s?–\s?|-)(?={DECIMAL}(?![\w/–-]*[–-][0-9]))")
_NO_FRACTIONS = frozenset(("24/7", "9/11", "50/50"))
_VULGAR = {"½": ("1", "2"), "⅓": ("1", "3"), "⅔": ("2", "3"), "¼": ("1", "4"), "¾": ("3", "4"), "⅛": ("1", "8")}
VULGAR = re.compile(rf"(?<![0-9])([0-9]*)\s?([{''.join(_VULGAR)}])")


def money(match: re.Match[str]) -> str:
    """$3.50, $3.5 million, £1bn, USD 20."""
    return _money(match[1] or match[2], match[3], match[4], match[5])


def money_range(match: re.Match[str]) -> str:
    """$5-10: the sign goes to the number behind, which is read by itself."""
    return f"{cardinal(match[4])} to {match[1]}"


def money_behind(match: re.Match[str]) -> str:
    """20 €, 5k USD."""
    return _money(match[4], match[1], match[2], match[3])


def measure(match: re.Match[str]) -> str:
    """5kg, 60 mph, 21.5 °C."""
    return f"{decimal(match[1])} {_counted(_UNITS[match[2]], match[1])}"


def round_number(match: re.Match[str]) -> str:
    """100s of people."""
    return _ROUND[match[1].replace(",", "")]


def model_s(match: re.Match[str]) -> str:
    """iPhone 5s."""
    return f"{match[1]}{cardinal(match[2])} s"


def several_models(match: re.Match[str]) -> str:
    """two 747s."""
    return match[1] + models(match[2])


def airliner(match: re.Match[str]) -> str:
    """747-400."""
    return f"{model(match[1])} {cardinal(match[2])}"


def height(match: re.Match[str]) -> str:
    """5'11"."""
    return f"{cardinal(match[1])} {_counted('foot', match[1])} {cardinal(match[2])}"


def inches(match: re.Match[str]) -> str:
    """A screen of 27"."""
    before_noun = re.match(r" [a-z]", match.string[match.end() : match.end() + 2])
    return f"{decimal(match[1])} {'inch' if before_noun else _counted('inch', match[1])}"


def mark_inches(text: str) -> str:
    """`text` with ″ for each " behind a number that closes no quotation."""
    quoted = False

    def mark(match: re.Match[str]) -> str:
        nonlocal quoted
        if match[1] and not quoted:
            return f"{match[1]}″"
        quoted = not quoted
        return match[0]

    return _QUOTE.sub(mark, text)


def fraction(match: re.Match[str]) -> str:
    """3/4, 1 1/2; what is no part of one is read as it is written."""
    whole, upper, lower = match.groups()
    if match[0] in _NO_FRACTIONS:
        return f"{cardinal(upper)} {cardinal(lower)}"
    if not 0 < int(upper) < int(lower) or (len(lower) > 1 and lower[0] == "0"):
        spoken = f"{cardinal(upper)} over {cardinal(lower)}"
        return f"{cardinal(whole)} {spoken}" if whole else spoken
    return (f"{cardinal(whole)} and " if whole else "") + _part(upper, lower)


def vulgar(match: re.Match[str]) -> str:
    """½, 2¼."""
    upper, lower = _VULGAR[match[2]]
    return (f"{cardinal(match[1])} and " if match[1] else "") + _part(upper, lower)


def range_of(match: re.Match[str]) -> str:
    """5-10: five to ten; what comes behind is read by itself."""
    return f"{match[1]} to "


def _part(upper: str, lower: str) -> str:
    name = {"2": "half", "4": "quarter"}.get(lower) or ordinal(lower)
    several = "halves" if name == "half" else f"{name}s"
    return f"{cardinal(upper)} {name if upper == '1' else several}"


def _money(sign: str, whole: str, part: str | None, scale: str | None) -> str:
    unit, small = _CURRENCIES[sign]
    if scale:
        number = decimal(f"{whole}.{part}" if part else whole)
        return f"{number} {_SCALES.get(scale.lower(), scale)} {_counted(unit, '2')}"
    spoken = f"{cardinal(whole)} {_counted(unit, whole)}"
    if not part or not int(part):
        return spoken
    if not small or len(part) > 2:
        return f"{cardinal(whole)} point {one_by_one(part)} {_counted(unit, '2')}"
    cents = part.ljust(2, "0").lstrip("0")
    spoken_cents = f"{cardinal(cents)} {_counted(small, cents)}"
    return f"{spoken} and {spoken_cents}" if whole.strip("0") else spoken_cents


def _counted(unit: str, number: str) -> str:
    if is_one(number):
        return unit
    head, behind, tail = unit.partition(" per ")
    *before, last = head.split(" ")
    if head.startswith("degree "):
        before, last = [], "degree"
        behind, tail = " ", head.removeprefix("degree ")
    elif last.endswith("hertz"):
        return unit
    return " ".join([*before, _ALIKE.get(last, f"{last}s")]) + behind + tail
