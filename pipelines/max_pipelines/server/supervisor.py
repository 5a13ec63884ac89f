"""The supervisor: keeps the configured number of workers alive. Logic only: no process, no clock.

A worker that dies is started again after a pause that doubles from 0.25 s to 8 s; it is short again once one has
served, or a minute after the last death. Five deaths within a minute, or a worker that says itself that it cannot start
before any has served, end the attempt for its place: what failed so often will fail again. Once no place is left, the
server gives up. One that has not become ready after `start_timeout_s` hangs, and is ended.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
MAX_CRASHES = 5
CRASH_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start a worker under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """One worker fewer from now on, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No worker can be had, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """This worker will never be ready, and why."""

    name: str
    reason: str


Order: TypeAlias = Spawn | Abandon | GiveUp | End


@dataclass(slots=True)
class _Place:
    kind: str
    index: int
    generation: int = 0
    pause: float = FIRST_PAUSE_S
    start_at: float = 0.0  # infinity while a worker is there
    ready_by: float = math.inf  # infinity once it is, or has ended
    last_words: str = ""
    abandoned: bool = False
    crashes: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.index}.{self.generation}"


class Supervisor:
    """`tick`, `ready`, `unfit` and `exited` take what happened and return what to do.

    `wake` is the time at which `tick` is due, infinity if never.
    """

    def __init__(self, count: int, kind: str = "worker", start_timeout_s: float = math.inf) -> None:
        self._places = [_Place(kind, index) for index in range(count)]
        self._start_timeout_s = start_timeout_s
        self._served = False
        self.wake = 0.0

    def tick(self, now: float) -> list[Order]:
        """Start the workers whose pause is over, end those that take for ever to start."""
        orders: list[Order] = []
        for place in self._places:
            if place.start_at <= now:
                place.start_at = math.inf
                place.generation += 1
                place.last_words = ""
                place.ready_by = now + self._start_timeout_s
                orders.append(Spawn(place.name))
            elif place.ready_by <= now:
                place.ready_by = math.inf
                reason = f"was not ready after {self._start_timeout_s:g} s"
                place.last_words = f"{place.name} {reason}"
                orders.append(End(place.name, reason))
        self._set_wake()
        return orders

    def ready(self, name: str) -> None:
        """The worker serves: the next pause is a short one again."""
        place = self._place(name)
        if place is not None:
            place.pause = FIRST_PAUSE_S
            place.ready_by = math.inf
            self._served = True

    def unfit(self, name: str, reason: str) -> list[Order]:
        """A worker says that it cannot serve, and is about to end. Where one has served, the next one may again."""
        place = self._place(name)
        if place is None:
            return []
        place.last_words = reason
        return [] if self._served else self._abandon(place, reason)

    def exited(self, name: str, reason: str, now: float) -> list[Order]:
        """A worker ended without being asked to."""
        place = self._place(name)
        if place is None:
            return []
        place.ready_by = math.inf
        place.crashes.append(now)
        while place.crashes[0] < now - CRASH_WINDOW_S:
            place.crashes.popleft()
        if len(place.crashes) == 1:  # it has lived for long; a face never says that it is ready
            place.pause = FIRST_PAUSE_S
        if len(place.crashes) >= MAX_CRASHES:
            why = place.last_words or f"{name} {reason}"
            return self._abandon(place, f"{why}, the {MAX_CRASHES}th time within {CRASH_WINDOW_S:g} s")
        place.start_at = now + place.pause
        place.pause = min(2 * place.pause, LONGEST_PAUSE_S)
        self._set_wake()
        return []

    def _abandon(self, place: _Place, reason: str) -> list[Order]:
        place.abandoned = True
        place.ready_by = math.inf
        if all(place.abandoned for place in self._places):
            return [GiveUp(reason)]
        return [Abandon(place.name, reason)]

    def _place(self, name: str) -> _Place | None:
        """The place of a worker that is there."""
        for place in self._places:
            if place.name == name and place.start_at == math.inf and not place.abandoned:
                return place
        return None

    def _set_wake(self) -> None:
        self.wake = min(min(place.start_at, place.ready_by) for place in self._places)
