"""Answers that are known already: what is deterministic need not be computed twice."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

OVERHEAD = 512  # bytes that an entry takes beside its answer


class Cached(NamedTuple):
    """A whole answer, and when it was made."""

    body: bytes
    headers: dict[str, str]
    made_at: float


class AnswerCache:
    """The answers that were asked for last: at most `max_bytes` of them, and none that is older than `max_age_s`.

    The same for all that two callers with the same key would be told, and for nobody else.
    """

    def __init__(self, max_bytes: int, max_age_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._answers: OrderedDict[bytes, Cached] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> Cached | None:
        """The answer, if it is known and fresh."""
        found = self._answers.get(key)
        if found is None:
            return None
        if self._clock() - found.made_at > self._max_age_s:
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return found

    def put(self, key: bytes, body: bytes, headers: dict[str, str]) -> None:
        """Keep an answer, in place of those that were not asked for for longest."""
        if len(body) + OVERHEAD > self._max_bytes:
            return
        if key in self._answers:
            self._forget(key)
        self._answers[key] = Cached(body, headers, self._clock())
        self._bytes += len(body) + OVERHEAD
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._answers)))

    def _forget(self, key: bytes) -> None:
        self._bytes -= len(self._answers.pop(key).body) + OVERHEAD


def cache_key(caller: str, *parts: object) -> bytes:
    """A key for everything that an answer depends on: who asks, whom, for what, and in which form."""
    return sha256(repr((caller, *parts)).encode()).digest()
