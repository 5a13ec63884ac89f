"""What is known about a class is worked out once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, TypeVar

EntryT = TypeVar("EntryT")


class PerType(dict[type, EntryT]):
    """`table[kind]` is `make(kind)`, computed once. A plain dict look-up afterwards, which hot paths need."""

    def __init__(self, make: Callable[[type], EntryT]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: type) -> EntryT:
        entry = self[kind] = self._make(kind)
        return entry


ValuesOf = Callable[[Any], tuple[Any, ...]]


def values_of(names: Sequence[str]) -> ValuesOf:
    """The function from an object to the values of these attributes, in order. At C speed from two names on."""
    if len(names) > 1:
        return attrgetter(*names)
    only = attrgetter(*names)
    return lambda instance: (only(instance),)
