"""What comes from an iterator while somebody does other work."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Generic, Self, TypeVar

ItemT = TypeVar("ItemT")

AHEAD = 4  # items that may wait


class Feed(Generic[ItemT]):
    """Runs an async iterator in a task of its own, a few items ahead, and leaves it when the block is left.

    What it raises, `next` does behind the last item. (No generator with a decorator: the loop closes those that nobody
    holds any more one by one when it ends, this one's inner before the one that uses it.)
    """

    def __init__(self, source: AsyncIterator[ItemT]) -> None:
        self._source = source
        self._running: asyncio.Task[None] | None = None
        self._items: deque[ItemT] = deque()
        self._over = False
        self._problem: BaseException | None = None
        self._news = asyncio.Event()  # something has come, or the end
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._running = asyncio.ensure_future(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running

    @property
    def ended(self) -> bool:
        """Whether it is known that nothing more will come."""
        return self._over and not self._items and self._problem is None

    async def next(self) -> ItemT | None:
        """The next item, None after the last."""
        while not (self._items or self._over):
            self._news.clear()
            await self._news.wait()
        item = self.waiting()
        if item is None and self._problem is not None:
            raise self._problem
        return item

    def waiting(self) -> ItemT | None:
        """The next item if it is there."""
        if not self._items:
            return None
        self._room.set()
        return self._items.popleft()

    async def _run(self) -> None:
        source = self._source
        try:
            async for item in source:
                self._items.append(item)
                self._news.set()
                while len(self._items) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        except (Exception, asyncio.CancelledError) as problem:  # cancelled by us, or what it awaits was by others
            self._problem = problem
        finally:
            self._over = True
            self._news.set()
            if isinstance(source, AsyncGenerator):
                await source.aclose()
