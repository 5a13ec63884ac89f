"""The supervisor: keeps the configured number of workers alive. Logic only: no process, no clock.

A worker that dies is started again after a pause that doubles from 0.25 s to 8 s. Five deaths within a minute, or a
worker that says itself that it cannot start, end the attempt: what failed so often will fail again.
"""

from __future__ import annotations

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
class GiveUp:
    """No worker can be had, and why."""

    reason: str


Order: TypeAlias = Spawn | GiveUp


@dataclass(slots=True)
class _Slot:
    index: int
    generation: int = 0
    pause: float = FIRST_PAUSE_S
    start_at: float | None = 0.0  # None while a worker is there
    crashes: deque[float] = field(default_factory=deque)

    @property
    def name(self) -> str:
        return f"worker-{self.index}.{self.generation}"


class Supervisor:
    """`tick`, `ready`, `exited` and `unfit` take what happened and return what to do."""

    def __init__(self, count: int) -> None:
        self._slots = [_Slot(index) for index in range(count)]
        self._given_up = False

    def tick(self, now: float) -> list[Order]:
        """Start the workers whose pause is over."""
        if self._given_up:
            return []
        orders: list[Order] = []
        for slot in self._slots:
            if slot.start_at is not None and slot.start_at <= now:
                slot.start_at = None
                slot.generation += 1
                orders.append(Spawn(slot.name))
        return orders

    def ready(self, name: str) -> None:
        """The worker serves: the next pause is a short one again."""
        for slot in self._slots:
            if slot.name == name:
                slot.pause = FIRST_PAUSE_S

    def exited(self, name: str, reason: str, now: float) -> list[Order]:
        """A worker ended without being asked to."""
        slot = next((slot for slot in self._slots if slot.name == name and slot.start_at is None), None)
        if slot is None or self._given_up:
            return []
        slot.crashes.append(now)
        while slot.crashes[0] < now - CRASH_WINDOW_S:
            slot.crashes.popleft()
        if len(slot.crashes) >= MAX_CRASHES:
            return self.unfit(f"{name} {reason}, the {MAX_CRASHES}th time within {CRASH_WINDOW_S:g} s")
        slot.start_at = now + slot.pause
        slot.pause = min(2 * slot.pause, LONGEST_PAUSE_S)
        return []

    def unfit(self, reason: str) -> list[Order]:
        """A worker cannot start, and another would not either."""
        if self._given_up:
            return []
        self._given_up = True
        return [GiveUp(reason)]

    def next_wake(self) -> float | None:
        """When `tick` is due, or None."""
        times = [slot.start_at for slot in self._slots if slot.start_at is not None and not self._given_up]
        return min(times, default=None)
