"""Requests that are still to be sent: they can be cancelled like those that are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager


class Waiting:
    """Who waits for its turn among many, or for its adapters, by its id."""

    def __init__(self) -> None:
        self._scopes: dict[str, asyncio.Timeout | None] = {}  # None for one whose turn has not come
        self._cancelled: set[str] = set()

    @contextmanager
    def these(self, keys: Iterable[str]) -> Iterator[None]:
        """They wait; whatever becomes of them, at the end of the block none does."""
        own = list(keys)
        self._scopes.update(dict.fromkeys(own))
        try:
            yield
        finally:
            for key in own:
                self._scopes.pop(key, None)
                self._cancelled.discard(key)

    def cancel(self, key: str) -> bool:
        """End the waiting of a request. False for one that does not wait."""
        if key not in self._scopes:
            return False
        scope = self._scopes.pop(key)
        self._cancelled.add(key)
        if scope is not None:
            scope.reschedule(asyncio.get_running_loop().time())
        return True

    async def over(self, key: str, last: Callable[[], Awaitable[object]] | None = None) -> bool:
        """Its turn has come: wait for what it waits for at `last`. False if it was cancelled before that was there."""
        if last is not None and key in self._scopes:
            scope = asyncio.timeout(None)
            try:
                async with scope:
                    self._scopes[key] = scope
                    await last()
            except TimeoutError:
                if not scope.expired():
                    raise
        self._scopes.pop(key, None)
        return key not in self._cancelled
