"""One validator for every public type, reading the same `Meta` bounds that the wire format is built from.

A field is written once, as `Annotated[int, Meta(ge=0, le=9)]`. `check_fields(self)` in `__post_init__` freezes and
checks each field by that annotation; `wire.py` builds the decoder from it. So the two cannot drift.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import numpy as np
from msgspec import Meta

from .per_type import PerType
from .values import Json

TOKEN_ID_MAX = 2**31 - 1  # ids are int32 on the device

TokenId = Annotated[int, Meta(ge=0, le=TOKEN_ID_MAX)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Position = Annotated[int, Meta(ge=0, le=2**62)]  # an absolute sample or a nanosecond clock
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
ShortText = Annotated[str, Meta(max_length=4096)]
LongText = Annotated[str, Meta(max_length=2**22)]
TokenIds = Annotated[tuple[TokenId, ...], Meta(max_length=2**20)]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """The bound of an array field: which kinds of dtype, how many dimensions and elements, what the values may be.

    `kinds` are numpy's one-letter kinds ("f", "iu"); `dtype`, if given, is what the field is stored as.
    """

    kinds: str
    ndim: int
    max_size: int
    dtype: str | None = None
    ge: int | None = None
    le: int | None = None


Check = Callable[[str, object], object]  # (where, value) -> the frozen value, or ValueError


def check_fields(instance: object) -> None:
    """Freeze and check every field of a frozen dataclass; ValueError names the field, its value and its bound."""
    for name, check in _plans[type(instance)]:
        value = getattr(instance, name)
        frozen = check(f"{type(instance).__name__}.{name}", value)
        if frozen is not value:
            object.__setattr__(instance, name, frozen)


def _plan(cls: type) -> tuple[tuple[str, Check], ...]:
    hints = get_type_hints(cls, include_extras=True)
    return tuple((field.name, _check_for(hints[field.name])) for field in dataclasses.fields(cls))


_plans = PerType(_plan)


def _fail(where: str, value: object, bound: str) -> ValueError:
    shown = repr(value)
    return ValueError(f"{where} = {shown if len(shown) <= 80 else shown[:77] + '...'}: {bound}")


def _check_for(hint: object, meta: Meta | ArrayOf | None = None) -> Check:
    """The check for one annotation."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *extras = get_args(hint)
        bounds = [extra for extra in extras if isinstance(extra, Meta | ArrayOf)]
        return _check_for(inner, bounds[0] if bounds else None)
    if origin in (Union, types.UnionType):
        return _union(get_args(hint))
    if isinstance(meta, ArrayOf):
        return _array(meta)
    if origin is tuple:
        return _sequence(_check_for(get_args(hint)[0]), meta)
    if origin in (Mapping, dict):
        key, value = get_args(hint)
        return _mapping(_check_for(key), _check_for(value), meta)
    if isinstance(hint, type):
        return _plain(hint, meta)
    raise TypeError(f"no validator for the annotation {hint!r}")


def _plain(kind: type, meta: Meta | None) -> Check:
    if issubclass(kind, Enum):
        return _enum(kind)
    if kind is bool:
        return _bool
    if kind is int:
        return _number(operator.index, "an integer", meta)
    if kind is float:
        return _number(_to_float, "a number", meta)
    if kind is str or kind is bytes:
        return _text(kind, meta)
    if kind is Json:
        return lambda where, value: value if isinstance(value, Json) else Json.of(value, where)
    return _instance(kind)


def _bool(where: str, value: object) -> object:
    if not isinstance(value, bool | np.bool_):
        raise _fail(where, value, "must be True or False")
    return bool(value)


def _to_float(value: object) -> float:
    if isinstance(value, str) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError
    return float(value)


def _number(convert: Callable[..., int | float], what: str, meta: Meta | None) -> Check:
    def check(where: str, value: object) -> object:
        if isinstance(value, bool | np.bool_):
            raise _fail(where, value, f"must be {what}, not a bool")
        try:
            number = convert(value)
        except (TypeError, OverflowError):
            raise _fail(where, value, f"must be {what}") from None
        if isinstance(number, float) and not math.isfinite(number):
            raise _fail(where, value, "must be finite")
        if meta is not None:
            _check_range(where, number, meta)
        return number

    return check


def _check_range(where: str, number: float, meta: Meta) -> None:
    if meta.ge is not None and number < meta.ge:
        raise _fail(where, number, f"must be at least {meta.ge}")
    if meta.gt is not None and number <= meta.gt:
        raise _fail(where, number, f"must be above {meta.gt}")
    if meta.le is not None and number > meta.le:
        raise _fail(where, number, f"must be at most {meta.le}")


def _check_length(where: str, value: Sequence[object] | Mapping[object, object], meta: Meta | None, unit: str) -> None:
    if meta is None:
        return
    if meta.min_length is not None and len(value) < meta.min_length:
        raise _fail(where, value, f"has {len(value)} {unit}, needs at least {meta.min_length}")
    if meta.max_length is not None and len(value) > meta.max_length:
        raise _fail(where, value, f"has {len(value)} {unit}, may have at most {meta.max_length}")


def _text(kind: type, meta: Meta | None) -> Check:
    unit = "characters" if kind is str else "bytes"

    def check(where: str, value: object) -> object:
        if not isinstance(value, kind) or not isinstance(value, str | bytes):
            raise _fail(where, value, f"must be {kind.__name__}")
        _check_length(where, value, meta, unit)
        if isinstance(value, str) and not value.isascii():
            try:  # a lone surrogate is legal in Python and in no encoding
                value.encode()
            except UnicodeEncodeError:
                raise _fail(where, value, "must be text that UTF-8 can carry") from None
        return value

    return check


def _enum(kind: type[Enum]) -> Check:
    def check(where: str, value: object) -> object:
        try:
            return kind(value)
        except ValueError:
            names = ", ".join(str(member.value) for member in kind)
            raise _fail(where, value, f"must be one of {names}") from None

    return check


def _instance(kind: type) -> Check:
    def check(where: str, value: object) -> object:
        if not isinstance(value, kind):
            raise _fail(where, value, f"must be a {kind.__name__}")
        return value

    return check


def _union(arms: tuple[object, ...]) -> Check:
    checks = [_check_for(arm) for arm in arms if arm is not type(None)]
    optional = type(None) in arms

    def check(where: str, value: object) -> object:
        if value is None and optional:
            return None
        problems: list[ValueError] = []
        for arm in checks:
            try:
                return arm(where, value)
            except ValueError as problem:
                problems.append(problem)
        # The arm that got furthest, past the type and to a bound, says most.
        raise next((p for p in problems if ": must be a" not in str(p)), problems[0])

    return check


def _sequence(item: Check, meta: Meta | None) -> Check:
    def check(where: str, value: object) -> object:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if isinstance(value, str | bytes) or not isinstance(value, Sequence):
            raise _fail(where, value, "must be a sequence")
        _check_length(where, value, meta, "items")
        return tuple(item(f"{where}[{index}]", part) for index, part in enumerate(value))

    return check


def _mapping(key: Check, item: Check, meta: Meta | None) -> Check:
    def check(where: str, value: object) -> object:
        if not isinstance(value, Mapping):
            raise _fail(where, value, "must be a mapping")
        _check_length(where, value, meta, "entries")
        frozen = {key(f"{where} key", k): item(f"{where}[{k!r}]", v) for k, v in value.items()}
        return types.MappingProxyType(frozen)

    return check


def _array(bound: ArrayOf) -> Check:
    def check(where: str, value: object) -> object:
        array = value if isinstance(value, np.ndarray) else None
        if array is None:
            raise _fail(where, value, "must be a numpy array")
        if array.dtype.kind not in bound.kinds:
            raise _fail(where, array.dtype.name, f"its dtype must be of kind {' or '.join(bound.kinds)}")
        if array.ndim != bound.ndim:
            raise _fail(where, array.shape, f"must have {bound.ndim} dimension(s)")
        if array.size > bound.max_size:
            raise _fail(where, array.shape, f"may have at most {bound.max_size} elements")
        _check_values(where, array, bound)
        return _read_only(array, bound.dtype)

    return check


def _check_values(where: str, array: np.ndarray, bound: ArrayOf) -> None:
    if not array.size:
        return
    low, high = array.min(), array.max()
    if bound.ge is not None and low < bound.ge:
        raise _fail(where, low.item(), f"values must be at least {bound.ge}")
    if bound.le is not None and high > bound.le:
        raise _fail(where, high.item(), f"values must be at most {bound.le}")
    if array.dtype.kind == "f" and not (math.isfinite(low) and math.isfinite(high)):
        raise _fail(where, array, "values must be finite")


def _read_only(array: np.ndarray, dtype: str | None) -> np.ndarray:
    """A read-only array that nobody else can write: the same one if it is already so, otherwise a copy."""
    wanted = np.dtype(dtype or array.dtype.newbyteorder("="))
    if _is_frozen(array) and array.dtype == wanted and array.flags.c_contiguous:
        return array
    frozen = np.array(array, dtype=wanted, order="C", copy=True)
    frozen.flags.writeable = False
    return frozen


def _is_frozen(array: np.ndarray) -> bool:
    """True when no one can write: read-only, and so is whatever it looks into (an immutable buffer, say)."""
    if array.flags.writeable:
        return False
    base = array.base
    if base is None:
        return not array.flags.owndata or not array.flags.writeable
    if isinstance(base, np.ndarray):
        return _is_frozen(base)
    return isinstance(base, bytes) or (isinstance(base, memoryview) and base.readonly)
