"""The calls of a model that had to make some."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .json_span import JsonSpan
from .pieces import Arguments, CallBegins, Piece

HEAD = re.compile(r'\}?\s*[\[,]?\s*\{"name": ("(?:[^"\\]|\\.)*"), "arguments": ')


class ForcedReader:
    """Reads `[{"name": …, "arguments": {…}}, …]`, which a grammar has seen to: `tools.Offer.grammar`.

    Arguments are passed on as they are written. What is cut off before its name is complete is lost: it says nothing.
    """

    def __init__(self) -> None:
        self._held = ""
        self._count = 0
        self._span: JsonSpan | None = None  # of the arguments that are being read

    def push(self, text: str) -> Iterator[Piece]:
        """See `Reader`."""
        self._held += text
        while self._held:
            if self._span is None:
                head = HEAD.match(self._held)
                if head is None:
                    return
                yield CallBegins(self._count, json.loads(head[1]))
                self._span, self._held = JsonSpan(), self._held[head.end() :]
                continue
            end = self._span.push(self._held)
            mine = self._held[:end]
            if mine:
                yield Arguments(self._count, mine)
            self._held = self._held[len(mine) :]
            if end is not None:
                self._span, self._count = None, self._count + 1

    def finish(self) -> Iterator[Piece]:
        """See `Reader`."""
        return iter(())
