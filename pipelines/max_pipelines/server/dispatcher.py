"""The dispatcher: owns every request until its one terminal message. Logic only: no socket, no clock.

Every event is handled by one method that returns what is to be sent. Requests are admitted, wait in line, run on a
worker with free credits, and end exactly once.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Mapping, Sequence

from max_interfaces.messages import (
    Alive,
    Cancel,
    ChunkHead,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Ping,
    Ready,
    Retire,
    Start,
    Stop,
    Submit,
    Unfit,
    encode_header,
)
from max_interfaces.status import FailureKind, GenerationStatus

from ..config import Limits
from .events import (
    Action,
    DrainBegins,
    DrainEnds,
    Event,
    Kill,
    PeerGone,
    Received,
    Send,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from .ledger import Ledger
from .roster import Roster
from .table import Catalogue, ClientRecord, LiveRequest, WaitingLine, WorkerRecord

RETRY_AFTER_S = 1.0  # by then a waiting line of short requests has moved
LAST_ATTEMPT = 2**31 - 1  # what the wire can carry


class Dispatcher:
    """`handle(event, now)` returns the actions to take, in order. `now` is in seconds on any steady clock.

    `wake` is the time at which `handle(Tick(), now)` is due at the latest, infinity if never.
    """

    def __init__(self, limits: Limits, expected_models: Iterable[str]) -> None:
        self.limits = limits
        self.catalogue = Catalogue(frozenset(expected_models))
        self._ledger = Ledger(limits.lease_s)
        self._roster = Roster()
        # The records themselves, to look into. Attributes and no properties: a server that slept feels each call.
        self.requests: Mapping[str, LiveRequest] = self._ledger.requests
        self.clients: Mapping[bytes, ClientRecord] = self._ledger.clients
        self.workers: Mapping[bytes, WorkerRecord] = self._roster.workers
        self.waiting: WaitingLine = self._ledger.waiting
        self.draining = False
        self.problem = ""  # why no worker can be had, once that is so
        self.wake = math.inf
        self._asking: set[bytes] = set()  # clients that wait to be told what is served
        # One count for all requests: an id may be used again while chunks of its first use are still on their way.
        self._attempts = itertools.count()
        self._random = random.Random()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; then see to what is overdue."""
        actions = self._received(event, now) if isinstance(event, Received) else self._happened(event)
        if now >= self.wake:
            actions += self._overdue(now)
        return actions

    def _happened(self, event: Event) -> list[Action]:
        match event:
            case PeerGone(peer, reason):
                return self._peer_gone(peer, reason)
            case Unreadable(peer, problem):
                return self._unreadable(peer, problem)
            case WorkerExited(name, reason):
                self._roster.bury(name)
                return [action for worker in self._roster.named(name) for action in self._worker_gone(worker, reason)]
            case WorkersGivenUp(reason):
                self.problem = reason
                rest = list(self.requests.values())
                return self._describe() + self._end(rest, GenerationStatus.FAILED, FailureKind.WORKER_DIED, reason)
            case DrainBegins():
                self.draining = True
                waiting = [request for request in self.requests.values() if request.worker is None]
                kind = FailureKind.SHUTTING_DOWN
                return self._end(waiting, GenerationStatus.FAILED, kind, "the server is shutting down")
            case DrainEnds():
                rest = list(self.requests.values())
                return self._end(rest, GenerationStatus.CANCELLED, FailureKind.SHUTTING_DOWN, "the server shut down")
        return []

    def _received(self, event: Received, now: float) -> list[Action]:
        peer = event.peer
        match event.message:
            case Delivery() as delivery:
                return self._delivered(event, delivery, now)
            case Submit() as submit:
                return self._submitted(submit, event, now)
            case Cancel(request_id):
                request = self.requests.get(request_id)
                if request is not None and request.peer == peer:
                    return self._end([request], GenerationStatus.CANCELLED)
            case Ping(owner):
                self._ledger.pinged(owner, now)
            case Describe():
                self._asking.add(peer)
                return self._describe()
            case Goodbye():
                return self._client_gone(peer)
            case Alive() as alive:
                return self._alive(peer, alive, now)
            case Ready() as ready:
                return self._ready(peer, ready, now)
            case Ended() as ended:
                return self._worker_ended(peer, ended, now)
            case Unfit(_, reason):
                worker = self.workers.get(peer)
                return self._worker_gone(worker, f"cannot serve: {reason}") if worker else []
        return []

    # -- clients -------------------------------------------------------------------------------------------------

    def _submitted(self, submit: Submit, event: Received, now: float) -> list[Action]:
        refusal = self._refusal(submit)
        if refusal is not None:
            kind, message = refusal
            retry = RETRY_AFTER_S if kind is FailureKind.OVERLOADED else None
            return [Send(event.peer, Ended(submit.request_id, GenerationStatus.FAILED, kind, message[:4096], retry))]
        request = LiveRequest(
            submit.request_id,
            event.peer,
            submit.model,
            now + submit.deadline_s,
            submit.priority,
            self._random.getrandbits(62) if submit.seed is None else submit.seed,
            event.payload,
        )
        self.wake = min(self.wake, self._ledger.open(request, now))
        worker = self._roster.least_loaded(request.model)
        if worker is None:
            self.waiting.add(request)
            return []
        return [self._start(request, worker)]  # nobody waits for a model that has a worker with a credit left

    def _refusal(self, submit: Submit) -> tuple[FailureKind, str] | None:
        if submit.request_id in self.requests:
            return FailureKind.DUPLICATE_ID, f"request {submit.request_id!r} is still running; give a new id"
        if self.draining:
            return FailureKind.SHUTTING_DOWN, "the server is shutting down"
        if submit.model not in self.catalogue:
            served = ", ".join(self.catalogue.names) or "none"
            return FailureKind.UNKNOWN_MODEL, f"no model {submit.model!r} is served here; served: {served}"
        if self.problem:
            return FailureKind.WORKER_DIED, f"no worker serves {submit.model!r}: {self.problem}"
        if len(self.requests) >= self.limits.max_requests:
            return FailureKind.OVERLOADED, f"{len(self.requests)} requests are live, the most that may be"
        if len(self.waiting) >= self.limits.max_waiting and not self._roster.least_loaded(submit.model):
            return FailureKind.OVERLOADED, f"{len(self.waiting)} requests wait already"
        return None

    def _describe(self) -> list[Action]:
        """Tell those who asked what is served, once that is settled."""
        if not self.problem and not self.catalogue.complete:
            return []
        known = self.catalogue.known
        described = Described(tuple(known[name] for name in sorted(known)), self.problem[:4096])
        actions: list[Action] = [Send(peer, described) for peer in sorted(self._asking)]
        self._asking.clear()
        return actions

    def _client_gone(self, peer: bytes) -> list[Action]:
        self._asking.discard(peer)
        return self._end(self._ledger.of(peer), GenerationStatus.CANCELLED, told=False)

    def _peer_gone(self, peer: bytes, reason: str) -> list[Action]:
        worker = self.workers.get(peer)
        return self._worker_lost(worker, reason) if worker else self._client_gone(peer)

    def _unreadable(self, peer: bytes, problem: str) -> list[Action]:
        """What a worker wanted to say of its requests is lost; a client may at least be told."""
        worker = self.workers.get(peer)
        if worker:
            return self._worker_lost(worker, f"sent what cannot be read: {problem}")
        return [Send(peer, Described(problem=problem[:4096]))]

    # -- workers -------------------------------------------------------------------------------------------------

    def _delivered(self, event: Received, delivery: Delivery, now: float) -> list[Action]:
        """The hot path: note what every chunk brings, and pass the message on as it came."""
        worker = self.workers.get(event.peer)
        if worker is None:
            return []
        self._heard(worker, now)
        stale: list[int] = []
        ended: list[LiveRequest] = []
        for index, head in enumerate(delivery.heads):
            request = self.requests.get(head.request_id)
            if (
                request is None
                or request.worker is not worker
                or request.attempt != head.attempt
                or request.next_seq != head.seq
            ):
                stale.append(index)
                continue
            request.next_seq += 1
            request.next_sample = head.first_sample + head.samples
            request.tokens.extend(head.tokens)
            if head.status is not GenerationStatus.ACTIVE:
                self._ledger.close(request)
                ended.append(request)
        actions: list[Action] = []
        if not stale:
            actions.append(Send(delivery.peer, delivery, event.payload, event.header))
        elif len(stale) < len(delivery.heads):
            fresh = Delivery(delivery.peer, delivery.heads, tuple(stale))
            actions.append(Send(delivery.peer, fresh, event.payload, encode_header(fresh)))
        if stale:
            actions += self._end_torn(worker, [delivery.heads[index] for index in stale])
        if ended and self.waiting:
            actions += self._assign()
        return actions

    def _end_torn(self, worker: WorkerRecord, heads: Iterable[ChunkHead]) -> list[Action]:
        """Of the chunks not passed on, most are late or repeated; one from the future shows that another was lost."""
        torn = {
            request.request_id: request
            for head in heads
            if (request := self.requests.get(head.request_id)) is not None
            and request.worker is worker
            and request.attempt == head.attempt
            and head.seq > request.next_seq
        }
        message = f"a chunk was lost on the way from {worker.name}"
        return self._end(list(torn.values()), GenerationStatus.FAILED, FailureKind.WORKER_ERROR, message)

    def _worker_ended(self, peer: bytes, ended: Ended, now: float) -> list[Action]:
        worker = self.workers.get(peer)
        request = self.requests.get(ended.request_id)
        if worker is None:
            return []
        self._heard(worker, now)
        if request is None or request.worker is not worker or request.attempt != ended.attempt:
            return []
        self._ledger.close(request)
        return [Send(request.peer, ended), *self._assign()]

    def _alive(self, peer: bytes, alive: Alive, now: float) -> list[Action]:
        worker = self.workers.get(peer)
        if worker is None:
            if self._roster.is_dead(alive.worker):
                return []
            if not alive.busy_s:  # it does not begin: we took it for lost, or another server had it
                return [Send(peer, Retire())]
            worker = self._roster.join(alive.worker, peer)
        self._heard(worker, now + alive.busy_s)
        return []

    def _ready(self, peer: bytes, ready: Ready, now: float) -> list[Action]:
        worker = self.workers.get(peer)
        if worker is None:
            return [] if self._roster.is_dead(ready.worker) else [Send(peer, Retire())]
        lost = self._lose(worker, "was started again") if worker.credits else []
        self._heard(worker, now)
        worker.models = frozenset(model.name for model in ready.models)
        worker.credits = ready.credits
        self.catalogue.known.update({model.name: model for model in ready.models})
        return lost + self._describe() + self._assign()

    def _heard(self, worker: WorkerRecord, now: float) -> None:
        worker.silent_after = now + self.limits.silence_s
        if worker.silent_after < self.wake:  # what is put off leaves `wake` too early, which does no harm
            self.wake = worker.silent_after

    def _worker_lost(self, worker: WorkerRecord, reason: str) -> list[Action]:
        """It is of no more use, but may still run."""
        return [Kill(worker.name, reason), *self._worker_gone(worker, reason)]

    def _worker_gone(self, worker: WorkerRecord, reason: str) -> list[Action]:
        self._roster.leave(worker)
        return self._lose(worker, reason)

    def _lose(self, worker: WorkerRecord, reason: str) -> list[Action]:
        lost = [self.requests[key] for key in sorted(worker.running)]
        for request in lost:
            request.worker = None  # nobody is there to be told
        worker.running.clear()
        return self._end(lost, GenerationStatus.FAILED, FailureKind.WORKER_DIED, f"{worker.name} {reason}")

    def _assign(self) -> list[Action]:
        """Give waiting requests to workers with free credits."""
        actions: list[Action] = []
        for model in self.waiting.models:
            while (worker := self._roster.least_loaded(model)) and (request_id := self.waiting.pop(model)):
                actions.append(self._start(self.requests[request_id], worker))
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
        )
        return Send(worker.peer, start, request.payload)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end(
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
        return actions + self._assign()

    def _overdue(self, now: float) -> list[Action]:
        late = self._ledger.late(now)
        kind = FailureKind.DEADLINE_EXCEEDED
        actions = self._end(late, GenerationStatus.DEADLINE_EXCEEDED, kind, "the deadline passed")
        silence = f"the client was silent for {self.limits.lease_s:g} s"
        for peer in self._ledger.silent(now):
            silent = self._ledger.of(peer)
            actions += self._end(silent, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, silence)
        for worker in self._roster.silent(now):
            actions += self._worker_lost(worker, f"made no progress for {self.limits.silence_s:g} s")
        self.wake = min(self._ledger.due, self._roster.due)
        return actions
