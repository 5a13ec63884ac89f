"""Which request runs where: requests begin, wait, are given to workers, go on elsewhere, and end."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from max_interfaces.messages import LONGEST_S, Ended, Start, Stop
from max_interfaces.status import FailureKind, GenerationStatus

from .adapters import AdapterBook
from .events import Action, Send
from .ledger import Ledger
from .roster import Roster
from .table import Catalogue, LiveRequest, WorkerRecord
from .waiting import WaitingLine

LAST_ATTEMPT = 2**31 - 1  # what the wire can carry
TRIAL_S = 2.0  # for so long, at least, whoever has made no progress keeps suspects from its worker, or all others
MAX_BROKEN = 2  # workers that a request may break
MAX_LOST = 4  # workers that a request may lose, nobody knows to whom; one more, and their supervisor would give up
MAX_TORN = 64  # times that the way to its worker may lose something of a request


class Placement:
    """The requests of `ledger` on the workers of `roster`. Every method returns what is to be sent.

    A request whose worker is lost goes on where its listener is: another worker gets its tokens, its next sample and
    its next output's number. Whether it was the request that broke the worker is found out: those that were there are
    suspects, and are tried elsewhere a few at a time, while nobody else begins there. If that worker dies before they
    have made progress, they may be to blame, and are tried alone from then on. A request that may have broken two
    workers ends; one that makes progress is acquitted. Whoever breaks workers only after some progress is not found
    out, and ends with all that were there each time.
    """

    def __init__(self, ledger: Ledger, roster: Roster, catalogue: Catalogue, adapters: AdapterBook) -> None:
        self._ledger = ledger
        self._roster = roster
        self._catalogue = catalogue
        self._adapters = adapters
        # One count for all requests: an id may be used again while chunks of its first use are still on their way.
        self._attempts = itertools.count()
        self._losses = itertools.count()
        self.resumed = 0  # how often a request went on elsewhere

    def begin(self, request: LiveRequest, now: float) -> list[Action]:
        """Enter a request, and start it if a worker has a credit left that nobody waits for."""
        ledger = self._ledger
        ledger.open(request, now)
        if not (ledger.waiting.places or ledger.suspects.places):  # nearly always
            worker = self._roster.least_loaded(request)
            if worker is not None:
                return [self._start(request, worker, now)]
        ledger.waiting.add(request)
        return self.assign(now)

    def assign(self, now: float) -> list[Action]:
        """Give waiting requests to workers with free credits. As long as suspects wait, nobody else begins."""
        actions: list[Action] = []
        suspects, waiting = self._ledger.suspects, self._ledger.waiting
        if not (suspects.places or waiting.places):
            return actions
        for model in suspects.models:
            self._give(suspects, model, now, actions)
        for model in waiting.models:
            if suspects.first(model) is None:
                self._give(waiting, model, now, actions)
        return actions

    def _give(self, line: WaitingLine, model: str, now: float, actions: list[Action]) -> None:
        while (key := line.first(model)) is not None:
            request = self._ledger.requests[key]
            if request.adapters and (why := self._adapters.hopeless(request)):
                actions.append(_failure(request, FailureKind.UNKNOWN_MODEL, why))
                self._ledger.close(request)
                continue
            worker = self._roster.least_loaded(request)
            if worker is None:
                return
            line.pop(model)
            actions.append(self._start(request, worker, now))

    def _start(self, request: LiveRequest, worker: WorkerRecord, now: float) -> Send:
        request.worker, request.tried_at = worker, now
        request.attempt = 1 + next(self._attempts) % LAST_ATTEMPT
        worker.running.add(request.request_id)
        worker.bytes += request.size
        worker.unproven += 1
        if request.suspect:
            worker.trial.add(request.request_id)
            worker.alone = request.broken > 0
        if request.prefix:
            self._roster.warms(worker, request.prefix)
        start = Start(
            request.request_id,
            request.peer,
            request.attempt,
            request.seed,
            min(max(0.0, request.deadline - now), LONGEST_S),  # a time that was added to the clock is rounded
            request.serial,
            tuple(request.tokens),
            request.next_sample,
            request.next_seq,
            request.priority,
            request.tenant,
            tuple([adapter.generation for adapter in request.adapters]) if request.adapters else (),
            request.first_sample,
        )
        return Send(worker.peer, start, request.payload)

    def proved(self, request: LiveRequest, now: float) -> list[Action]:
        """A request has made progress where it is. If others wait for that, their turn has come."""
        if not (request.suspect or self._ledger.suspects.places):  # nearly always
            request.proven = True
            if request.worker is not None:
                request.worker.unproven -= 1
            return []
        request.broken = 0
        self._let_others_in(request)
        return self.assign(now)

    def _let_others_in(self, request: LiveRequest) -> None:
        """Should its worker die, it is not to blame for it."""
        request.proven, request.suspect = True, False
        if request.worker is not None:
            request.worker.unproven -= 1
            request.worker.trial.discard(request.request_id)

    def end_trials(self, now: float) -> list[Action]:
        """Who shows nothing, for lack of memory or as all comes at its end, keeps others waiting only for a while.

        Its worker must have given a sign of life `TRIAL_S` after it began: one that hangs is silent, and will be lost.
        """
        for worker in self._roster.workers.values():
            before = min(now, worker.heard) - TRIAL_S
            if worker.left_at <= before:
                worker.leaving.clear()
            if worker.unproven:
                for request in [self._ledger.requests[key] for key in worker.running]:
                    if not request.proven and request.tried_at <= before:
                        self._let_others_in(request)
        return self.assign(now)

    def end(
        self,
        requests: Sequence[LiveRequest],
        status: GenerationStatus,
        now: float,
        kind: FailureKind | None = None,
        message: str = "",
        *,
        told: bool = True,
    ) -> list[Action]:
        """The terminal message of requests that no worker can end; their workers forget them and take others."""
        actions: list[Action] = []
        for request in requests:
            if told:
                ended = Ended(request.request_id, status, kind, message[:4096], serial=request.serial)
                actions.append(Send(request.peer, ended))
            if request.worker is not None:
                actions.append(self._stop(request, request.worker, now))
            self._ledger.close(request)
        return actions + self.assign(now)

    def lose(self, worker: WorkerRecord, reason: str, now: float, *, broken: bool = True) -> list[Action]:
        """A worker is no more: what it ran goes on elsewhere, what breaks workers ends.

        Nobody is to blame if it was not `broken` but left.
        """
        lost = [self._ledger.requests[key] for key in sorted(worker.running)]
        if broken:
            self._blame(lost)
        failed = [request for request in lost if request.broken >= MAX_BROKEN or len(request.losses) >= MAX_LOST]
        for request in lost:
            self._ledger.detach(request)
            if request not in failed:
                self._wait_on(request, now)
        actions: list[Action] = []
        for request in failed:
            times = f"broken {request.broken}" if request.broken >= MAX_BROKEN else f"lost {len(request.losses)}"
            text = f"{worker.name} {reason}; the request has {times} workers and is not tried again"
            actions += self.end([request], GenerationStatus.FAILED, now, FailureKind.WORKER_DIED, text)
        return actions + self.assign(now)

    def _blame(self, lost: Sequence[LiveRequest]) -> None:
        """Any of these may have broken their worker. One that has broken two is why whatever it was in has died."""
        unproven = [request for request in lost if not request.proven]
        for request in unproven:
            request.broken += request.suspect or len(unproven) == 1
        loss = frozenset([next(self._losses)])
        for request in lost:
            request.suspect = True
            request.losses |= loss
        known = frozenset[int]().union(*(request.losses for request in lost if request.broken >= MAX_BROKEN))
        if known:
            for request in self._ledger.requests.values():
                request.losses -= known

    def repeat(self, requests: Sequence[LiveRequest], reason: str, now: float) -> list[Action]:
        """Something of these was lost on the way. Their workers forget them, and they go on from what is known."""
        actions: list[Action] = []
        for request in requests:
            request.torn += 1
            if request.torn >= MAX_TORN:
                actions += self.end([request], GenerationStatus.FAILED, now, FailureKind.CONNECTION_LOST, reason)
                continue
            if request.worker is not None:
                actions.append(self._stop(request, request.worker, now))
            self._ledger.detach(request)
            self._wait_on(request, now)
        return actions + self.assign(now)

    def _stop(self, request: LiveRequest, worker: WorkerRecord, now: float) -> Send:
        """A worker forgets a request. Until it has, a suspect may still break it, and nobody else is to be blamed."""
        if request.suspect and not request.proven:
            worker.leaving[request.request_id] = 0
            worker.left_at = now
        return Send(worker.peer, Stop(request.request_id, request.attempt))

    def _wait_on(self, request: LiveRequest, now: float) -> None:
        """Put a request that has lost its worker in line, by when its listener will have heard all there is."""
        self.resumed += 1
        rate = self._catalogue.rate(request.model)
        dry_at = request.begun + (request.next_sample - request.first_sample) / rate if rate and request.begun else now
        line = self._ledger.suspects if request.suspect else self._ledger.waiting
        line.add_resumed(request, dry_at)


def _failure(request: LiveRequest, kind: FailureKind, message: str) -> Send:
    ended = Ended(request.request_id, GenerationStatus.FAILED, kind, message[:4096], serial=request.serial)
    return Send(request.peer, ended)
