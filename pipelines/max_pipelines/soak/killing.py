"""Deaths of workers, at random moments, and no more than the supervisor forgives."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from .waiting import happens

KILL_EVERY_S = 20.0  # the supervisor forgives four deaths a minute of the same place
FIRST, SPREAD = 0.3, 0.4  # a death comes within this part of a round, or of the time between two


class Killer:
    """Kills workers, given by name and process id, and counts them."""

    def __init__(self, workers: Callable[[], dict[str, int]], chance: random.Random) -> None:
        self._workers = workers
        self._chance = chance
        self.killed = 0

    async def work(self, number: int, seconds: float, over: asyncio.Event) -> None:
        """Kill some in round `number` of so many seconds: of short rounds, in every other one."""
        if seconds < KILL_EVERY_S and number % 2 == 0:
            return
        length = min(seconds, KILL_EVERY_S)
        for _ in range(max(1, int(seconds / KILL_EVERY_S))):
            moment = FIRST + SPREAD * self._chance.random()
            if await happens(over, moment * length):
                return
            self._kill_one()
            if await happens(over, (1 - moment) * length):
                return

    def _kill_one(self) -> None:
        workers = sorted(self._workers().values())
        if workers:
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(workers), signal.SIGKILL)
                self.killed += 1
