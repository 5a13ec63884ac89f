"""One validator for every public type, reading the same `Meta` bounds that the wire format is built from.

A field is written once, as `Annotated[int, Meta(ge=0, le=9)]`. `check_fields`, called by `__post_init__`, freezes
and checks each field by that annotation; `mirrors` builds the wire's decoder from it. So the two cannot drift.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, NamedTuple, Self, get_type_hints

from msgspec import Meta

from .checks import Rule, rule_for
from .per_type import PerType, ValuesOf, values_of

TOKEN_ID_MAX = 2**31 - 1  # ids are int32 on the device

TokenId = Annotated[int, Meta(ge=0, le=TOKEN_ID_MAX)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Position = Annotated[int, Meta(ge=0, le=2**62)]  # an absolute sample or a nanosecond clock
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Meta(ge=0, le=1e9)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
ShortText = Annotated[str, Meta(max_length=4096)]
LongText = Annotated[str, Meta(max_length=2**22)]
TokenIds = Annotated[tuple[TokenId, ...], Meta(max_length=2**20)]


class Bounded:
    """A frozen dataclass: first each field is held to its bounds, then all together to the rules between them.

    The wire, which has decoded each field by the same bounds, asks for the rules only.
    """

    __slots__ = ()

    def __post_init__(self) -> None:
        check_fields(self)
        self.check_rules()

    def check_rules(self) -> None:
        """ValueError for fields that do not go together."""

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self  # all of it is immutable; a copy would hold arrays that can be written

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        """Copied by its constructor, which freezes everything, into other processes as well."""
        return type(self), _plans[type(self)][0](self)


def check_fields(instance: object) -> None:
    """Freeze and check every field of a frozen dataclass; ValueError names the field, its value and its bound."""
    values, steps = _plans[type(instance)]
    for value, (name, where, default, rule) in zip(values(instance), steps, strict=True):
        if value is default:
            continue
        if type(value) is rule.kind and (rule.low is None or rule.low <= value <= rule.high):  # type: ignore[operator]
            continue
        frozen = rule.check(where, value)
        if frozen is not value:
            object.__setattr__(instance, name, frozen)


class _Step(NamedTuple):
    name: str
    where: str
    default: object  # within the bounds, and immutable: tests/interfaces holds it to that
    rule: Rule


def _plan(kind: type) -> tuple[ValuesOf, tuple[_Step, ...]]:
    hints = get_type_hints(kind, include_extras=True)
    steps = tuple(
        _Step(field.name, f"{kind.__name__}.{field.name}", field.default, rule_for(hints[field.name]))
        for field in dataclasses.fields(kind)
    )
    return values_of([step.name for step in steps]), steps


_plans = PerType(_plan)
