"""Small immutable values that fields are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeAlias

MAX_JSON_LENGTH = 2**18

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


@dataclass(frozen=True, slots=True)
class Json:
    """A JSON document as a value: immutable, comparable, hashable, bounded. `value` gives a fresh object."""

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or len(self.text) > MAX_JSON_LENGTH:
            raise ValueError(f"Json.text: must be a str of at most {MAX_JSON_LENGTH} characters")
        try:
            json.loads(self.text)
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"Json.text = {self.text[:60]!r}: is no JSON ({problem})") from None

    @classmethod
    def of(cls, value: object, where: str = "Json") -> Json:
        """The document of a plain Python object; ValueError, naming `where`, if JSON cannot say it."""
        try:
            return cls(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")))
        except (TypeError, ValueError, RecursionError) as problem:
            raise ValueError(f"{where} = {value!r:.60}: cannot be written as JSON ({problem})") from None

    @property
    def value(self) -> JsonValue:
        """A fresh Python object, the caller's to change."""
        parsed: JsonValue = json.loads(self.text)
        return parsed
