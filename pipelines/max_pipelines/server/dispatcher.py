"""The dispatcher: owns every request until its one terminal message. Logic only: no socket, no clock.

Every event is handled by one method that returns what is to be sent. Requests are admitted, wait in line, run on a
worker with free credits, and end exactly once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from max_interfaces.messages import (
    Alive,
    Cancel,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Ping,
    Ready,
    Submit,
    Unfit,
)
from max_interfaces.status import FailureKind, GenerationStatus

from ..config import Limits
from .events import (
    Action,
    DrainBegins,
    DrainEnds,
    Event,
    PeerGone,
    Received,
    Send,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from .ledger import Ledger
from .placement import Placement
from .roster import Roster
from .table import Catalogue, ClientRecord, LiveRequest, WaitingLine, WorkerRecord
from .worker_messages import WorkerMessages

RETRY_AFTER_S = 1.0  # by then a waiting line of short requests has moved


class Dispatcher:
    """`handle(event, now)` returns the actions to take, in order. `now` is in seconds on any steady clock."""

    def __init__(self, limits: Limits, expected_models: Iterable[str]) -> None:
        self.limits = limits
        self.catalogue = Catalogue(frozenset(expected_models))
        self._ledger = Ledger(limits.lease_s)
        self._roster = Roster(limits.silence_s)
        self._placement = Placement(self._ledger, self._roster)
        self._from_workers = WorkerMessages(self._ledger, self._roster, self._placement, self.catalogue)
        # The records themselves, to look into. Attributes and no properties: a server that slept feels each call.
        self.requests: Mapping[str, LiveRequest] = self._ledger.requests
        self.clients: Mapping[bytes, ClientRecord] = self._ledger.clients
        self.workers: Mapping[bytes, WorkerRecord] = self._roster.workers
        self.waiting: WaitingLine = self._ledger.waiting
        self.draining = False
        self.problem = ""  # why no worker can be had, once that is so
        self._asking: set[bytes] = set()  # clients that wait to be told what is served
        self._random = random.Random()

    @property
    def wake(self) -> float:
        """When `handle(Tick(), now)` is due at the latest, infinity if never."""
        return min(self._ledger.wake, self._roster.wake)

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; then see to what is overdue."""
        actions = self._received(event, now) if isinstance(event, Received) else self._happened(event)
        if now >= self._ledger.wake or now >= self._roster.wake:
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
                gone = self._roster.named(name)
                return [action for worker in gone for action in self._from_workers.gone(worker, reason)]
            case WorkersGivenUp(reason):
                self.problem = reason
                return self._describe() + self._end_all(GenerationStatus.FAILED, FailureKind.WORKER_DIED, reason)
            case DrainBegins():
                self.draining = True
                waiting = [request for request in self.requests.values() if request.worker is None]
                kind, why = FailureKind.SHUTTING_DOWN, "the server is shutting down"
                return self._placement.end(waiting, GenerationStatus.FAILED, kind, why)
            case DrainEnds():
                kind, why = FailureKind.SHUTTING_DOWN, "the server shut down"
                return self._end_all(GenerationStatus.CANCELLED, kind, why)
        return []

    def _end_all(self, status: GenerationStatus, kind: FailureKind, why: str) -> list[Action]:
        return self._placement.end(list(self.requests.values()), status, kind, why)

    def _received(self, event: Received, now: float) -> list[Action]:
        peer = event.peer
        match event.message:
            case Delivery() as delivery:
                return self._from_workers.delivered(event, delivery, now)
            case Submit() as submit:
                return self._submitted(submit, event, now)
            case Cancel(request_id):
                request = self.requests.get(request_id)
                if request is not None and request.peer == peer:
                    return self._placement.end([request], GenerationStatus.CANCELLED)
            case Ping(owner):
                self._ledger.pinged(owner, now)
            case Describe():
                self._asking.add(peer)
                return self._describe()
            case Goodbye():
                return self._client_gone(peer)
            case Alive() as alive:
                return self._from_workers.alive(peer, alive, now)
            case Ready() as ready:
                return self._from_workers.ready(peer, ready, now) + self._describe()
            case Ended() as ended:
                return self._from_workers.ended(peer, ended, now)
            case Unfit(_, reason):
                worker = self.workers.get(peer)
                return self._from_workers.gone(worker, f"cannot serve: {reason}") if worker else []
        return []

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
            submit.tenant,
            self._random.getrandbits(62) if submit.seed is None else submit.seed,
            event.payload,
        )
        return self._placement.begin(request, now)

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
        return self._placement.end(self._ledger.of(peer), GenerationStatus.CANCELLED, told=False)

    def _peer_gone(self, peer: bytes, reason: str) -> list[Action]:
        worker = self.workers.get(peer)
        return self._from_workers.lost(worker, reason) if worker else self._client_gone(peer)

    def _unreadable(self, peer: bytes, problem: str) -> list[Action]:
        """What a worker wanted to say of its requests is lost; a client may at least be told."""
        worker = self.workers.get(peer)
        if worker:
            return self._from_workers.lost(worker, f"sent what cannot be read: {problem}")
        return [Send(peer, Described(problem=problem[:4096]))]

    def _overdue(self, now: float) -> list[Action]:
        late = self._ledger.late(now)
        kind = FailureKind.DEADLINE_EXCEEDED
        actions = self._placement.end(late, GenerationStatus.DEADLINE_EXCEEDED, kind, "the deadline passed")
        silence = f"the client was silent for {self.limits.lease_s:g} s"
        for peer in self._ledger.silent(now):
            silent = self._ledger.of(peer)
            actions += self._placement.end(silent, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, silence)
        for worker in self._roster.silent(now):
            actions += self._from_workers.lost(worker, f"made no progress for {self.limits.silence_s:g} s")
        self._ledger.look_ahead()
        self._roster.look_ahead()
        return actions
