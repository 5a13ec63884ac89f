"""Where the outputs of one request wait for their reader."""

from __future__ import annotations

import asyncio
from collections import deque

from max_interfaces.messages import ChunkHead, Ended
from max_interfaces.wire import AnyOutput


class Inbox:
    """A queue with one reader in one event loop. Bounded by how far its reader may be behind.

    `items` may be taken from the left; where there are none, `await arrival()`. `serial` is the submission's number,
    `expires` the loop's time by which its end must have come, `next_seq` the number of the next output to arrive.
    While the server watches, `watched` is the output up to which it wants to know what is read. What is kept `ahead`
    on purpose counts as read.
    """

    __slots__ = (
        "_ends",
        "_loop",
        "_waiter",
        "ahead",
        "expires",
        "items",
        "next_seq",
        "read_sample",
        "read_seq",
        "serial",
        "watched",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, serial: int, expires: float, *, ahead: bool = False) -> None:
        self.items: deque[AnyOutput | Ended] = deque()
        self.serial = serial
        self.expires = expires
        self.next_seq = 0
        self.read_seq = 0  # outputs taken, and where their sound ends
        self.read_sample = 0
        self.watched = -1
        self.ahead = ahead
        self._ends: deque[int] = deque()  # of each output's sound, in samples
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None

    @property
    def awaited(self) -> bool:
        """Whether the reader waits."""
        return self._waiter is not None and not self._waiter.done()

    def put(self, item: AnyOutput | Ended, head: ChunkHead | None = None) -> None:
        """Add an item and wake the reader."""
        if head is not None:
            self.next_seq = head.seq + 1
            self._ends.append(head.first_sample + head.samples)
        self.items.append(item)
        self.wake()

    def take(self) -> AnyOutput | Ended:
        """The oldest item."""
        if self._ends:
            self.read_seq += 1
            self.read_sample = self._ends.popleft()
        return self.items.popleft()

    @property
    def progress(self) -> tuple[int, int]:
        """How many outputs count as read, and where their sound ends."""
        return (self.next_seq, self._ends[-1]) if self.ahead and self._ends else (self.read_seq, self.read_sample)

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
