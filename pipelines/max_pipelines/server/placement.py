"""Which request runs where: requests begin, wait, are given to workers, and end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from max_interfaces.messages import Ended, Start, Stop
from max_interfaces.status import FailureKind, GenerationStatus

from .events import Action, Send
from .ledger import Ledger
from .roster import Roster
from .table import LiveRequest, WorkerRecord

LAST_ATTEMPT = 2**31 - 1  # what the wire can carry


class Placement:
    """The requests of `ledger` on the workers of `roster`. Every method returns what is to be sent."""

    def __init__(self, ledger: Ledger, roster: Roster) -> None:
        self._ledger = ledger
        self._roster = roster
        # One count for all requests: an id may be used again while chunks of its first use are still on their way.
        self._attempts = itertools.count()

    def begin(self, request: LiveRequest, now: float) -> list[Action]:
        """Enter a request, and start it if a worker has a credit left. Nobody waits for a model that has such."""
        self._ledger.open(request, now)
        worker = self._roster.least_loaded(request.model)
        if worker is None:
            self._ledger.waiting.add(request)
            return []
        return [self._start(request, worker)]

    def assign(self) -> list[Action]:
        """Give waiting requests to workers with free credits."""
        actions: list[Action] = []
        for model in self._ledger.waiting.models:
            while (worker := self._roster.least_loaded(model)) and (request_id := self._ledger.waiting.pop(model)):
                actions.append(self._start(self._ledger.requests[request_id], worker))
        return actions

    def _start(self, request: LiveRequest, worker: WorkerRecord) -> Send:
        request.worker = worker
        request.attempt = 1 + next(self._attempts) % LAST_ATTEMPT
        worker.running.add(request.request_id)
        start = Start(
            request.request_id,
            request.peer,
            request.attempt,
            request.seed,
            tuple(request.tokens),
            request.next_sample,
            request.next_seq,
            request.priority,
            request.tenant,
        )
        return Send(worker.peer, start, request.payload)

    def end(
        self,
        requests: Sequence[LiveRequest],
        status: GenerationStatus,
        kind: FailureKind | None = None,
        message: str = "",
        *,
        told: bool = True,
    ) -> list[Action]:
        """The terminal message of requests that no worker can end; their workers forget them and take others."""
        actions: list[Action] = []
        for request in requests:
            if told:
                actions.append(Send(request.peer, Ended(request.request_id, status, kind, message[:4096])))
            if request.worker is not None:
                actions.append(Send(request.worker.peer, Stop(request.request_id, request.attempt)))
            self._ledger.close(request)
        return actions + self.assign()

    def lose(self, worker: WorkerRecord, reason: str) -> list[Action]:
        """What a worker that is no more ran can go on nowhere."""
        lost = [self._ledger.requests[key] for key in sorted(worker.running)]
        for request in lost:
            request.worker = None  # nobody is there to be told
        worker.running.clear()
        return self.end(lost, GenerationStatus.FAILED, FailureKind.WORKER_DIED, f"{worker.name} {reason}")
