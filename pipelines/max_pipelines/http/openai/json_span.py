"""Where a JSON value ends, in a text that comes in pieces."""

from __future__ import annotations


class JsonSpan:
    """Follows one object or list. It looks for its end alone: what is within it may be no JSON."""

    __slots__ = ("_depth", "_escaped", "_string")

    def __init__(self) -> None:
        self._depth = 0
        self._string = self._escaped = False

    def push(self, text: str) -> int | None:
        """How much of `text` still belongs to the value; None if all does, and more will."""
        for at, character in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._string:
                self._escaped = character == "\\"
                self._string = character != '"'
            elif character == '"':
                self._string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return at + 1
        return None
