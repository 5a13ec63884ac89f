"""Where the outputs of one request wait for their reader."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT")


class Inbox(Generic[ItemT]):
    """A queue with one reader in one event loop. Bounded by what one request can produce.

    `items` may be taken from the left; where there are none, `await arrival()`.
    """

    __slots__ = ("_loop", "_waiter", "items")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.items: deque[ItemT] = deque()
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: ItemT) -> None:
        """Add an item and wake the reader."""
        self.items.append(item)
        self.wake()

    def wake(self) -> None:
        """Let the reader look again."""
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    def arrival(self) -> asyncio.Future[None]:
        """Done at the next `put` or `wake`."""
        self._waiter = self._loop.create_future()
        return self._waiter
