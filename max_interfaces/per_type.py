"""A table with one entry a class, made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

EntryT = TypeVar("EntryT")


class PerType(dict[type, EntryT]):
    """`table[kind]` is `make(kind)`, computed once. A plain dict look-up afterwards, which hot paths need."""

    def __init__(self, make: Callable[[type], EntryT]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, kind: type) -> EntryT:
        entry = self[kind] = self._make(kind)
        return entry
