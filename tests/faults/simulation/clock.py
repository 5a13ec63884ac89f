"""A virtual clock: what happens at which time, in order, without waiting."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

STANDSTILL = 10_000  # events at one time


class Timer:
    """Something that will happen, unless it is called off."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """It will not."""
        self.action = None


class Clock:
    """Time passes only from one event to the next. Looks enough like an event loop for the client's side."""

    def __init__(self) -> None:
        self.now = 100.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Timer]] = []

    def at(self, time: float, action: Callable[[], None]) -> Timer:
        """Let something happen at a time."""
        timer = Timer(action)
        heapq.heappush(self._heap, (max(time, self.now), next(self._order), timer))
        return timer

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Let something happen in a while."""
        return self.at(self.now + seconds, action)

    def run_until(self, time: float) -> None:
        """Let all happen that happens up to a time."""
        at_once = 0
        while self._heap and self._heap[0][0] <= time:
            before = self.now
            self.now, _, timer = heapq.heappop(self._heap)
            at_once = at_once + 1 if self.now == before else 0
            assert at_once < STANDSTILL, "time stands still"
            if timer.action is not None:
                timer.action()
        self.now = time

    # -- what `Demultiplexer` and `Inbox` want of an event loop

    def time(self) -> float:
        """As `asyncio.AbstractEventLoop.time`."""
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """As `asyncio.AbstractEventLoop.call_later`."""
        return self.after(delay, callback)
