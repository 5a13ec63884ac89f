"""The workers that are there: who serves what, how loaded each is, and who has fallen silent."""

from __future__ import annotations

import math
from collections import deque

from .table import WorkerRecord

REMEMBERED_DEAD = 256  # workers whose last messages may still be on their way


class Roster:
    """Workers by routing id. One is silent once nothing was heard of it for `silence_s` beyond what it announced.

    `wake` is when one may be: never too late, but too early once one was heard again.
    """

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._dead: deque[str] = deque(maxlen=REMEMBERED_DEAD)
        self.workers: dict[bytes, WorkerRecord] = {}
        self.wake = math.inf

    def named(self, name: str) -> list[WorkerRecord]:
        """Those that call themselves `name`."""
        return [worker for worker in self.workers.values() if worker.name == name]

    def join(self, name: str, peer: bytes) -> WorkerRecord:
        """A worker has come."""
        worker = self.workers[peer] = WorkerRecord(name, peer)
        return worker

    def leave(self, worker: WorkerRecord) -> None:
        """A worker has gone."""
        del self.workers[worker.peer]

    def bury(self, name: str) -> None:
        """The process of that name has ended; what it still says counts no more."""
        self._dead.append(name)

    def is_dead(self, name: str) -> bool:
        """Whether a worker of that name was buried lately."""
        return name in self._dead

    def heard(self, worker: WorkerRecord, now: float) -> None:
        """It lives."""
        worker.silent_after = now + self._silence_s
        if worker.silent_after < self.wake:
            self.wake = worker.silent_after

    def silent(self, now: float) -> list[WorkerRecord]:
        """Those that should have been heard of by now."""
        return [worker for worker in self.workers.values() if worker.silent_after <= now]

    def look_ahead(self) -> None:
        """Set `wake` to when the next one will be silent, infinity if there is none."""
        self.wake = min((worker.silent_after for worker in self.workers.values()), default=math.inf)

    def least_loaded(self, model: str) -> WorkerRecord | None:
        """The one to give a request for `model` to: it has a credit left, and the others are no freer."""
        best, least = None, 1.0  # where no credit is left
        for worker in self.workers.values():
            if model in worker.models and worker.credits and (load := len(worker.running) / worker.credits) < least:
                best, least = worker, load
        return best
