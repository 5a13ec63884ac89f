"""Small immutable values that fields are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, NoReturn, TypeAlias, TypeVar

from msgspec import Meta

from .problems import fail

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT", covariant=True)

MAX_JSON_LENGTH = 2**18

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


class FrozenMapping(Mapping[KeyT, ValueT]):
    """A read-only mapping. Unlike `types.MappingProxyType` it can be hashed and copied (`dataclasses.asdict`)."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Mapping[KeyT, ValueT]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, key: KeyT) -> ValueT:
        return self._entries[key]

    def __iter__(self) -> Iterator[KeyT]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __hash__(self) -> int:
        return hash(frozenset(self._entries.items()))

    def __repr__(self) -> str:
        return repr(self._entries)


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document as a value: immutable, comparable, hashable, bounded. `value` gives a fresh object."""

    text: Annotated[str, Meta(max_length=MAX_JSON_LENGTH)]

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise fail("Json.text", self.text, "must be str")
        if len(self.text) > MAX_JSON_LENGTH:
            raise fail("Json.text", self.text, f"has {len(self.text)} characters, may have at most {MAX_JSON_LENGTH}")
        try:
            self.text.encode()  # a lone surrogate is legal in Python and in no encoding
            json.loads(self.text, parse_constant=_refuse)
        except (ValueError, RecursionError) as problem:
            raise fail("Json.text", self.text, f"is no JSON ({problem})") from None

    @classmethod
    def of(cls, value: object, where: str = "Json") -> Json:
        """The document of a plain Python object; ValueError, naming `where`, if JSON cannot say it."""
        try:
            return cls(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
        except (TypeError, ValueError, RecursionError) as problem:
            raise fail(where, value, f"cannot be written as JSON ({problem})") from None

    @property
    def value(self) -> JsonValue:
        """A fresh Python object, the caller's to change."""
        parsed: JsonValue = json.loads(self.text)
        return parsed


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
