"""Every field of every public type refuses what is out of its bound, and says which field, which value, which bound."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from msgspec import Meta

from max_interfaces import Json, RequestOptions
from max_interfaces.arrays import ArrayOf
from max_interfaces.checks import rule_for
from max_interfaces.problems import MAX_SHOWN, shown
from max_interfaces.wire import Payload
from tests.interfaces.identical import identical
from tests.interfaces.public_types import parts_of
from tests.interfaces.strategies import plain

KINDS = [kind for kind in parts_of([*get_args(Payload), RequestOptions]) if kind is not Json]
Refused = tuple[object, str]  # a value, and what must be said of it


def refused(hint: Any, meta: Meta | None = None) -> Iterator[Refused]:
    """Values that a field of this annotation must not take."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        array = next((bound for bound in arguments[1:] if isinstance(bound, ArrayOf)), None)
        yield from _arrays(array) if array else refused(arguments[0], arguments[1])
    elif origin in (Union, types.UnionType):
        arms = [arm for arm in arguments if arm is not type(None)]
        several = [(3.5, "must be"), (object(), "must be")]
        found = refused(arms[0]) if len(arms) == 1 else several
        yield from ((value, bound) for value, bound in found if value is not None)
    elif hint is int or hint is float:
        yield from _numbers(hint, meta or Meta())
    elif hint is str or hint is bytes:
        assert meta is not None
        assert meta.max_length is not None
        yield 5, f"must be {hint.__name__}"
        yield hint(b"a" * (meta.max_length + 1)) if hint is bytes else "a" * (meta.max_length + 1), str(meta.max_length)
        if hint is str:
            yield "\ud800", "UTF-8"
        if meta.min_length:
            yield hint(), f"needs at least {meta.min_length}"
    elif origin is tuple:
        assert meta is not None
        assert meta.max_length is not None
        yield from [(b"abc", "must be a sequence"), (5, "must be a sequence"), ({1}, "must be a sequence")]
        yield [None] * (meta.max_length + 1), f"may have at most {meta.max_length}"
    elif origin is Mapping:
        assert meta is not None
        assert meta.max_length is not None
        yield [1], "must be a mapping"
        yield dict.fromkeys(range(meta.max_length + 1)), f"may have at most {meta.max_length}"
    elif hint is bool:
        yield from [(1, "True or False"), ("True", "True or False"), (None, "True or False")]
    elif hint is Json:
        yield from [({1, 2}, "cannot be written as JSON"), (math.nan, "cannot be written as JSON")]
    elif issubclass(hint, Enum):
        yield "asleep", str(next(iter(hint)).value)
    else:
        yield "text", f"must be a {hint.__name__}"


def _numbers(kind: type, meta: Meta) -> Iterator[Refused]:
    what = "an integer" if kind is int else "a number"
    yield from [("5", f"must be {what}"), (True, "not a bool"), (np.True_, "not a bool"), ([1], f"must be {what}")]
    if kind is int:
        yield from [(1.5, "must be an integer"), (10**5000, "at most")]
    else:
        yield from [(math.nan, "finite"), (math.inf, "finite"), (-math.inf, "finite"), (10**400, "too large")]
    step = 1 if kind is int else 1e-6
    if meta.ge is not None:
        yield meta.ge - max(step, step * abs(meta.ge)), f"must be at least {_plainly(meta.ge)}"
    if meta.gt is not None:
        yield meta.gt, f"must be above {_plainly(meta.gt)}"
    if meta.le is not None:
        yield meta.le + (1 if kind is int else max(step, step * abs(meta.le))), f"must be at most {_plainly(meta.le)}"


def _plainly(bound: float) -> float:
    return int(bound) if bound == int(bound) else bound


def _arrays(bound: ArrayOf) -> Iterator[Refused]:
    good = np.zeros((1,) * bound.ndim, {"f": "float32", "u": "uint64"}.get(bound.kinds, "int64"))
    yield [1, 2], "must be a numpy array"
    yield good[None], f"must have {bound.ndim} dimension"
    yield np.array(1), "must have" if "i" in bound.kinds else "dtype"
    yield good.astype(complex), "its dtype must be of kind"
    yield good.astype(bool), "its dtype must be of kind"
    yield good.astype(object), "its dtype must be of kind"
    yield np.broadcast_to(good.reshape(-1)[0], (bound.max_size + 1,) + (1,) * (bound.ndim - 1)), str(bound.max_size)
    if bound.kinds == "f":
        yield np.full_like(good, np.nan), "finite"
        yield np.full_like(good, -np.inf), "finite"
        yield np.full(good.shape, 1e300), "finite"
    if bound.ge is not None:
        yield np.full_like(good, bound.ge - 1), f"at least {bound.ge}"
    if bound.le is not None:
        yield np.full_like(good, bound.le + 1), f"at most {bound.le}"
        yield np.full(good.shape, 2**64 - 1, "uint64"), f"{2**64 - 1}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_field_says_what_is_wrong_with_it(kind: type) -> None:
    good = plain(kind)
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(good):
        for value, bound in refused(hints[field.name]):
            with pytest.raises(ValueError, match=kind.__name__) as caught:
                dataclasses.replace(good, **{field.name: value})
            said = str(caught.value)
            assert said.startswith(f"{kind.__name__}.{field.name}"), said
            assert bound in said, said
            assert " = " in said, said
            assert len(said) < 400


@pytest.mark.parametrize(
    "value", ["a" * 10_000_000, 10**5000, [1] * 1000, np.zeros(10_000), b"a" * 10_000_000], ids=type
)
def test_a_large_value_is_shown_in_short(value: object) -> None:
    assert 0 < len(shown(value)) <= MAX_SHOWN


def test_a_value_that_cannot_be_shown_does_not_hide_the_error() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ValueError, match=r"RequestOptions.priority = <Rude>: must be an integer"):
        RequestOptions(priority=Rude())  # type: ignore[arg-type]


def test_plain_defaults_are_within_their_bounds_and_frozen() -> None:
    """`check_fields` takes a default as it is: so each must be what its check would have made of it."""
    for kind in KINDS:
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            if field.default is not dataclasses.MISSING:
                checked = rule_for(hints[field.name]).check(field.name, field.default)
                assert identical(checked, field.default), field.name
