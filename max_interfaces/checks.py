"""From an annotation to the function that freezes and checks a value of it.

Each check has a short way in for what is right, which is nearly always taken, and a long one that says what is wrong.
"""

from __future__ import annotations

import math
import operator
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Annotated, NamedTuple, Union, get_args, get_origin

import numpy as np
from msgspec import Meta

from .arrays import ArrayOf
from .problems import WrongType, fail
from .values import FrozenMapping, Json

Check = Callable[[str, object], object]  # (where, value) -> the frozen value, or ValueError


class Rule(NamedTuple):
    """How a value is checked; one of exactly the type `kind`, and from `low` to `high`, need not be: it is right."""

    check: Check
    kind: type | None = None
    low: float | None = None
    high: float | None = None


def rule_for(hint: object, meta: Meta | None = None) -> Rule:
    """The rule for one annotation. TypeError for an annotation that has none."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        for extra in extras:
            if isinstance(extra, ArrayOf):
                return Rule(extra.check)
        return rule_for(inner, next((extra for extra in extras if isinstance(extra, Meta)), None))
    if origin in (Union, types.UnionType):
        return _union(get_args(hint))
    if origin is tuple:
        return Rule(_sequence(rule_for(get_args(hint)[0]).check, meta))
    if origin is Mapping:
        key, value = get_args(hint)
        return Rule(_mapping(rule_for(key).check, rule_for(value).check, meta))
    if isinstance(hint, type):
        return _plain(hint, meta)
    raise TypeError(f"no validator for the annotation {hint!r}")


def _plain(kind: type, meta: Meta | None) -> Rule:
    if issubclass(kind, Enum):
        return Rule(_enum(kind), kind)
    if kind is bool:
        return Rule(_bool, bool)
    if kind is int:
        return _number(int, operator.index, "an integer", meta)
    if kind is float:
        return _number(float, _to_float, "a number", meta)
    if kind is str or kind is bytes:
        return Rule(_text(kind, meta))
    if kind is Json:
        return Rule(lambda where, value: value if isinstance(value, Json) else Json.of(value, where), Json)
    return Rule(_instance(kind), kind)


def _bool(where: str, value: object) -> object:
    if value is True or value is False:
        return value
    if not isinstance(value, np.bool_):
        raise WrongType(where, value, "must be True or False")
    return bool(value)


def _to_float(value: object) -> float:
    if not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    return float(value)


def _number(kind: type, convert: Callable[..., int | float], what: str, meta: Meta | None) -> Rule:
    low, high = _range(kind, meta)

    def check(where: str, value: object) -> object:
        if type(value) is kind and low <= value <= high:  # type: ignore[operator]  # NaN is in no range
            return value
        if isinstance(value, bool | np.bool_):
            raise WrongType(where, value, f"must be {what}, not a bool")
        try:
            number = convert(value)
        except OverflowError:
            raise fail(where, value, "is too large") from None
        except TypeError:
            raise WrongType(where, value, f"must be {what}") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise fail(where, value, "must be finite")
        if meta is not None:
            _check_range(where, number, meta)
        return number

    return Rule(check, kind, low, high)


def _range(kind: type, meta: Meta | None) -> tuple[float, float]:
    """The smallest and the largest number that the bound allows."""
    low, high = -sys.float_info.max, sys.float_info.max
    if meta is None:
        return low, high
    if meta.ge is not None:
        low = meta.ge
    if meta.gt is not None:
        low = meta.gt + 1 if kind is int else math.nextafter(meta.gt, math.inf)
    if meta.le is not None:
        high = meta.le
    if meta.lt is not None:
        high = meta.lt - 1 if kind is int else math.nextafter(meta.lt, -math.inf)
    return low, high


def _check_range(where: str, number: float, meta: Meta) -> None:
    if meta.ge is not None and number < meta.ge:
        raise fail(where, number, f"must be at least {_plainly(meta.ge)}")
    if meta.gt is not None and number <= meta.gt:
        raise fail(where, number, f"must be above {_plainly(meta.gt)}")
    if meta.le is not None and number > meta.le:
        raise fail(where, number, f"must be at most {_plainly(meta.le)}")
    if meta.lt is not None and number >= meta.lt:
        raise fail(where, number, f"must be below {_plainly(meta.lt)}")


def _plainly(bound: float) -> float:
    """1 for 1.0: which of the two an annotation holds depends on who wrote an equal one first (`typing` caches)."""
    return int(bound) if bound == int(bound) else bound


def _check_length(where: str, value: Sequence[object] | Mapping[object, object], meta: Meta | None, unit: str) -> None:
    if meta is None:
        return
    if meta.min_length is not None and len(value) < meta.min_length:
        raise fail(where, value, f"has {len(value)} {unit}, needs at least {meta.min_length}")
    if meta.max_length is not None and len(value) > meta.max_length:
        raise fail(where, value, f"has {len(value)} {unit}, may have at most {meta.max_length}")


def _text(kind: type, meta: Meta | None) -> Check:
    unit = "characters" if kind is str else "bytes"

    def check(where: str, value: object) -> object:
        if not isinstance(value, kind) or not isinstance(value, str | bytes):
            raise WrongType(where, value, f"must be {kind.__name__}")
        _check_length(where, value, meta, unit)
        if isinstance(value, str) and not value.isascii():
            try:  # a lone surrogate is legal in Python and in no encoding
                value.encode()
            except UnicodeEncodeError:
                raise fail(where, value, "must be text that UTF-8 can carry") from None
        if type(value) is not kind:  # a subclass may hold more, and the wire takes none
            return str.__str__(value) if isinstance(value, str) else bytes(memoryview(value))
        return value

    return check


def _enum(kind: type[Enum]) -> Check:
    def check(where: str, value: object) -> object:
        if type(value) is kind:
            return value
        try:
            return kind(value)
        except ValueError:
            names = ", ".join(str(member.value) for member in kind)
            raise fail(where, value, f"must be one of {names}") from None

    return check


def _instance(kind: type) -> Check:
    def check(where: str, value: object) -> object:
        if not isinstance(value, kind):
            raise WrongType(where, value, f"must be a {kind.__name__}")
        return value

    return check


def _union(arms: tuple[object, ...]) -> Rule:
    rules = [rule_for(arm) for arm in arms if arm is not type(None)]
    if len(rules) == 1:
        only = rules[0].check
        return rules[0]._replace(check=lambda where, value: None if value is None else only(where, value))
    optional = type(None) in arms

    def check(where: str, value: object) -> object:
        if value is None and optional:
            return None
        bounds: list[str] = []
        for arm in rules:
            try:
                return arm.check(where, value)
            except WrongType as problem:
                if problem.where != where:  # the value is of this arm's type; a part of it is wrong
                    raise
                bounds.append(problem.bound)
        raise WrongType(where, value, " or ".join(bounds))

    return Rule(check)


def _sequence(item: Check, meta: Meta | None) -> Check:
    def check(where: str, value: object) -> object:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, str | bytes | bytearray | memoryview) or not isinstance(value, Sequence):
            raise WrongType(where, value, "must be a sequence")
        _check_length(where, value, meta, "items")
        try:
            return tuple([item(where, part) for part in value])
        except ValueError:  # once more, to say which one
            return tuple(item(f"{where}[{index}]", part) for index, part in enumerate(value))

    return check


def _mapping(key: Check, item: Check, meta: Meta | None) -> Check:
    def check(where: str, value: object) -> object:
        if not isinstance(value, Mapping):
            raise WrongType(where, value, "must be a mapping")
        _check_length(where, value, meta, "entries")
        return FrozenMapping({key(f"{where} key", k): item(f"{where}[{k!r}]", v) for k, v in value.items()})

    return check
