"""Where the outputs of one request wait for their reader."""

from __future__ import annotations

import asyncio
from collections import deque

from max_interfaces.messages import Ended
from max_interfaces.wire import AnyOutput


class Inbox:
    """A queue with one reader in one event loop. Bounded by what one request can produce.

    `items` may be taken from the left; where there are none, `await arrival()`.
    """

    __slots__ = ("_loop", "_waiter", "items")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.items: deque[AnyOutput | Ended] = deque()
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    @property
    def awaited(self) -> bool:
        """Whether the reader waits."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, item: AnyOutput | Ended) -> None:
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
