"""The workers that are there: who serves what, how loaded each is, and who has fallen silent."""

from __future__ import annotations

import math
from collections import deque

from max_interfaces.messages import Alive, Ready

from .table import LiveRequest, WorkerRecord

REMEMBERED_DEAD = 256  # workers whose last messages may still be on their way
REMEMBERED_PREFIXES = 256  # a worker
TRIAL_GROUP = 8  # suspects that are tried together, as long as none of them has broken a worker so far
WORTH_OF_A_PREFIX = 0.25  # a worker that knows a request's beginning may be fuller by this share of its credits


class Roster:
    """Workers by routing id. One is silent once nothing was heard of it for `silence_s` beyond what it announced.

    Of the supervised ones `active` a model work; those ready beyond that stand by, until one of the others is gone.
    `wake` is when one may be silent: never too late, but too early once one was heard again.
    """

    def __init__(self, silence_s: float, active: int) -> None:
        self._silence_s = silence_s
        self._active = active
        self._dead: deque[str] = deque(maxlen=REMEMBERED_DEAD)
        self._own: set[bytes] = set()  # the supervised ones
        self.lost = 0  # processes of workers that have ended and were not asked to
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
        """A worker has gone; another one that stood by works in its place."""
        del self.workers[worker.peer]
        self._own.discard(worker.peer)
        self._promote()

    def enlist(self, worker: WorkerRecord, ready: Ready) -> None:
        """A worker can take requests."""
        worker.models = frozenset(model.name for model in ready.models)
        worker.credits, worker.credit_bytes = ready.credits, ready.credit_bytes
        worker.standby = ready.supervised
        if ready.supervised:
            self._own.add(worker.peer)
            self._promote()

    def _promote(self) -> None:
        """Let the first of those that stand by work, as long as too few do."""
        own = [self.workers[peer] for peer in sorted(self._own) if peer in self.workers]
        working = sum(not worker.standby for worker in own)
        for worker in own:
            if worker.standby and working < self._active:
                worker.standby = False
                working += 1

    def is_own(self, worker: WorkerRecord) -> bool:
        """Whether it is one of the supervised ones."""
        return worker.peer in self._own

    def bury(self, name: str) -> None:
        """The process of that name has ended; what it still says counts no more. That may be noticed twice."""
        if not self.is_dead(name):
            self._dead.append(name)
            self.lost += 1

    def is_dead(self, name: str) -> bool:
        """Whether a worker of that name was buried lately."""
        return name in self._dead

    def heard(self, worker: WorkerRecord, now: float, busy_s: float = 0.0) -> None:
        """It lives, and may be silent for `busy_s` from now on."""
        worker.heard = now
        worker.silent_after = now + busy_s + self._silence_s
        if worker.silent_after < self.wake:
            self.wake = worker.silent_after

    def told(self, worker: WorkerRecord, alive: Alive) -> None:
        """What a worker says of itself."""
        worker.steps, worker.age_s, worker.gauges = alive.steps, alive.age_s, alive.gauges
        if worker.credits and alive.credits:  # it is ready, and says how much of it is ours
            worker.credits = alive.credits

    def excuse(self, seconds: float) -> None:
        """For so long nobody could be heard: it counts for no silence."""
        for worker in self.workers.values():
            worker.silent_after += seconds

    def silent(self, now: float) -> list[WorkerRecord]:
        """Those that should have been heard of by now."""
        return [worker for worker in self.workers.values() if worker.silent_after <= now]

    def look_ahead(self) -> None:
        """Set `wake` to when the next one will be silent, infinity if there is none."""
        self.wake = min((worker.silent_after for worker in self.workers.values()), default=math.inf)

    def free(self, model: str) -> int:
        """How many requests more the workers of `model` would take."""
        workers = [worker for worker in self.workers.values() if model in worker.models and not worker.standby]
        return sum(max(0, worker.credits - len(worker.running)) for worker in workers)

    def least_loaded(self, request: LiveRequest) -> WorkerRecord | None:
        """The one to give a request to: it has credits left and the request's adapters, and the others are no freer, or
        not by much if this one has seen a request that begins alike.
        """
        best, least = None, 1.0
        for worker in self.workers.values():
            if worker.standby or not worker.credits or request.model not in worker.models:
                continue
            if request.adapters and not all(one.generation in worker.adapters for one in request.adapters):
                continue
            load = len(worker.running) / worker.credits
            if load >= 1.0 or (worker.running and worker.bytes + request.size > worker.credit_bytes):
                continue
            if (worker.trial or worker.leaving or request.suspect) and not self._may_begin(request, worker):
                continue
            if request.prefix and request.prefix in worker.warm:
                load -= WORTH_OF_A_PREFIX
            if load < least:
                best, least = worker, load
        return best

    def warms(self, worker: WorkerRecord, prefix: int) -> None:
        """A worker has a request that begins in a certain way, and will know the beginning again."""
        worker.warm.pop(prefix, None)
        worker.warm[prefix] = None
        if len(worker.warm) > REMEMBERED_PREFIXES:
            del worker.warm[next(iter(worker.warm))]

    def _may_begin(self, request: LiveRequest, worker: WorkerRecord) -> bool:
        """Whether it stays plain who is to blame, should the worker die before the request has made progress."""
        if worker.leaving:
            return False
        if not request.suspect:
            return not worker.trial
        if request.broken:
            return not worker.unproven
        return worker.unproven == len(worker.trial) < TRIAL_GROUP and not (worker.trial and worker.alone)
