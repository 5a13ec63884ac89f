"""The dispatcher: owns every request until its one terminal message. Logic only: no socket, no clock.

Every event is handled by one method that returns what is to be sent. Requests are admitted, wait in line, run on a
worker with free credits, go on elsewhere if it is lost, and end exactly once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from max_interfaces.messages import (
    Adapt,
    Alive,
    Beat,
    Cancel,
    Delivery,
    Describe,
    Described,
    Ended,
    Goodbye,
    Inspect,
    Noted,
    Ping,
    Read,
    Ready,
    Submit,
    Unfit,
)
from max_interfaces.status import FailureKind, GenerationStatus

from ..config import Limits
from .adapters import AdapterBook
from .admission import Admission
from .events import (
    Action,
    DrainBegins,
    DrainEnds,
    Event,
    Overslept,
    PeerGone,
    Received,
    Send,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from .ledger import Ledger
from .placement import Placement
from .reading import Reading
from .reporting import Reporting
from .roster import Roster
from .strangers import Strangers
from .table import Catalogue, ClientRecord, LiveRequest, WorkerRecord
from .waiting import WaitingLine
from .worker_messages import WorkerMessages

BEAT_S = 1.0  # how often workers are told that their dispatcher lives
MAX_ASKING = 4096  # clients that wait to be told what is served


class Dispatcher:
    """`handle(event, now)` returns the actions to take, in order. `now` is in seconds on any steady clock.

    Of the supervised workers, `active` work and the others stand by.
    """

    def __init__(self, limits: Limits, expected_models: Iterable[str], active: int = 1) -> None:
        self.limits = limits
        self.catalogue = Catalogue(frozenset(expected_models))
        self._ledger = Ledger(limits.lease_s)
        self._roster = Roster(limits.silence_s, active)
        self._adapters = AdapterBook(self._roster, self.catalogue)
        self._placement = Placement(self._ledger, self._roster, self.catalogue, self._adapters)
        self._reading = Reading(limits, self._ledger, self.catalogue)
        self._from_workers = WorkerMessages(
            self._ledger, self._roster, self._placement, self._reading, self.catalogue, self._adapters
        )
        self._admission = Admission(limits, self._ledger, self._roster, self.catalogue, self._adapters)
        self._strangers = Strangers()
        # The records themselves, to look into. Attributes and no properties: a server that slept feels each call.
        self.requests: Mapping[str, LiveRequest] = self._ledger.requests
        self.clients: Mapping[bytes, ClientRecord] = self._ledger.clients
        self.workers: Mapping[bytes, WorkerRecord] = self._roster.workers
        self.waiting: WaitingLine = self._ledger.waiting
        self.suspects: WaitingLine = self._ledger.suspects
        self.draining = False
        self.problem = ""  # why no worker can be had, once that is so
        self._given_up = ""  # why none of our own can
        self._asking: set[bytes] = set()  # clients that wait to be told what is served
        self._beat_at = 0.0
        self._random = random.Random()
        self._reporting = Reporting(
            self._ledger, self._roster, self._placement, self._admission, self._from_workers, self._strangers
        )

    @property
    def wake(self) -> float:
        """When `handle(Tick(), now)` is due at the latest, infinity if never."""
        wake = min(self._ledger.wake, self._roster.wake)
        return min(wake, self._beat_at) if self._roster.workers else wake

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; then see to what is overdue."""
        actions = self._received(event, now) if isinstance(event, Received) else self._happened(event, now)
        if now >= self._ledger.wake or now >= self._roster.wake or now >= self._beat_at:
            actions += self._overdue(now)
        if self._given_up and not self.problem:
            actions += self._give_up(now)
        return actions

    def _give_up(self, now: float) -> list[Action]:
        """No worker of our own will come any more. Those that came by themselves may still serve."""
        if any(worker.credits for worker in self.workers.values()):
            return []
        self.problem = reason = self._given_up
        told = self._describe() + self._adapters.give_up(reason)
        return told + self._end_all(GenerationStatus.FAILED, FailureKind.WORKER_DIED, reason, now)

    def _happened(self, event: Event, now: float) -> list[Action]:
        match event:
            case PeerGone(peer, reason):
                return self._peer_gone(peer, reason, now)
            case Unreadable():
                return self._unreadable(event, now)
            case WorkerExited(name, reason):
                self._roster.bury(name)
                gone = self._roster.named(name)
                return [action for worker in gone for action in self._from_workers.gone(worker, reason, now)]
            case WorkersGivenUp(reason):
                self._given_up = reason
            case Overslept(seconds):
                self._ledger.excuse(seconds)
                self._roster.excuse(seconds)
            case DrainBegins():
                return self._drain_begins(now)
            case DrainEnds():
                kind, why = FailureKind.SHUTTING_DOWN, "the server shut down"
                return self._end_all(GenerationStatus.CANCELLED, kind, why, now)
        return []

    def _drain_begins(self, now: float) -> list[Action]:
        """What has begun may end, also what a lost worker had begun."""
        self.draining = True
        waiting = [request for request in self.requests.values() if request.worker is None and not request.attempt]
        kind, why = FailureKind.SHUTTING_DOWN, "the server is shutting down"
        return self._placement.end(waiting, GenerationStatus.FAILED, now, kind, why)

    def _end_all(self, status: GenerationStatus, kind: FailureKind, why: str, now: float) -> list[Action]:
        return self._placement.end(list(self.requests.values()), status, now, kind, why)

    def _received(self, event: Received, now: float) -> list[Action]:
        peer = event.peer
        match event.message:
            case Delivery() as delivery:
                return self._from_workers.delivered(event, delivery, now)
            case Noted() as noted:
                return self._from_workers.noted(peer, noted, now)
            case Submit() as submit:
                return self._submitted(submit, event, now)
            case Read(request_id, serial, seq, sample):
                request = self._owned(peer, request_id, serial)
                return [] if request is None else self._reading.read(request, seq, sample, now)
            case Cancel(request_id, serial):
                request = self._owned(peer, request_id, serial)
                return [] if request is None else self._placement.end([request], GenerationStatus.CANCELLED, now)
            case Ping(owner):
                self._ledger.pinged(owner, now)
            case Describe():
                if len(self._asking) < MAX_ASKING:
                    self._asking.add(peer)
                return self._describe()
            case Inspect():
                return [Send(peer, self._reporting.report(now))]
            case Adapt() as adapt:
                return self._adapt(peer, adapt, now)
            case Goodbye():
                return self._left(peer, now)
            case Alive() as alive:
                return self._from_workers.alive(peer, alive, now)
            case Ready() as ready:
                return self._from_workers.ready(peer, ready, now) + self._describe()
            case Ended() as ended:
                return self._from_workers.ended(peer, ended, now)
            case Unfit(_, reason):
                worker = self.workers.get(peer)
                return self._from_workers.gone(worker, f"cannot serve: {reason}", now) if worker else []
        return []

    def _submitted(self, submit: Submit, event: Received, now: float) -> list[Action]:
        request = self.requests.get(submit.request_id)
        if request is not None and (request.peer, request.serial) == (event.peer, submit.serial):
            return []  # a repeat on the way
        size = sum(map(len, event.payload))
        objection = self._admission.objection(submit, size, draining=self.draining, problem=self.problem)
        if objection is not None:
            return [Send(event.peer, self._admission.refusal(submit, *objection))]
        request = LiveRequest(
            submit.request_id,
            event.peer,
            submit.serial,
            submit.model,
            now + submit.deadline_s,
            submit.priority,
            submit.tenant,
            self._random.getrandbits(62) if submit.seed is None else submit.seed,
            event.payload,
            size,
            submit.prefix,
            self._adapters.chosen(submit.model, submit.adapters) if submit.adapters else (),
        )
        return self._placement.begin(request, now)

    def _adapt(self, peer: bytes, adapt: Adapt, now: float) -> list[Action]:
        unable = "the server is shutting down" if self.draining else self.problem
        return self._adapters.asked(peer, adapt, unable) + self._placement.assign(now)

    def _owned(self, peer: bytes, request_id: str, serial: int) -> LiveRequest | None:
        """A request, if it is this client's."""
        request = self.requests.get(request_id)
        return request if request is not None and (request.peer, request.serial) == (peer, serial) else None

    def _describe(self) -> list[Action]:
        """Tell those who asked what is served, once that is settled."""
        if not self.problem and not self.catalogue.complete:
            return []
        known = self.catalogue.known
        models = tuple(self._adapters.described(known[name]) for name in sorted(known))
        described = Described(models, self.problem[:4096])
        actions: list[Action] = [Send(peer, described) for peer in sorted(self._asking)]
        self._asking.clear()
        return actions

    def _left(self, peer: bytes, now: float) -> list[Action]:
        """Somebody says goodbye: a client, or a worker whose requests go on elsewhere."""
        worker = self.workers.get(peer)
        return self._from_workers.gone(worker, "left", now, broken=False) if worker else self._client_gone(peer, now)

    def _client_gone(self, peer: bytes, now: float) -> list[Action]:
        self._asking.discard(peer)
        return self._placement.end(self._ledger.of(peer), GenerationStatus.CANCELLED, now, told=False)

    def _peer_gone(self, peer: bytes, reason: str, now: float) -> list[Action]:
        worker = self.workers.get(peer)
        return self._from_workers.lost(worker, reason, now) if worker else self._client_gone(peer, now)

    def _unreadable(self, event: Unreadable, now: float) -> list[Action]:
        """What a worker wanted to say of its requests is lost; a client may at least be told, once."""
        peer, problem = event.peer, event.problem
        actions = self._client_gone(peer, now)
        worker = self.workers.get(peer)
        if worker:
            actions = self._from_workers.lost(worker, f"sent what cannot be read: {problem}", now)
        return self._strangers.unreadable(peer, problem, cut=event.cut or worker is not None) + actions

    def _overdue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            waiting = min(len(self._ledger.waiting) + len(self._ledger.suspects), 2**30)
            actions += [Send(worker.peer, Beat(waiting)) for worker in self.workers.values() if worker.credits]
            actions += self._placement.end_trials(now)
            actions += self._reading.ask_again()
        if now >= self._ledger.wake:
            actions += self._late(now)
        if now >= self._roster.wake:
            for worker in self._roster.silent(now):
                actions += self._from_workers.lost(worker, f"made no progress for {self.limits.silence_s:g} s", now)
            self._roster.look_ahead()
        return actions

    def _late(self, now: float) -> list[Action]:
        """Deadlines that have passed, readers that have stalled, clients that have fallen silent."""
        end, limits = self._placement.end, self.limits
        kind = FailureKind.DEADLINE_EXCEEDED
        actions = end(self._ledger.late(now), GenerationStatus.DEADLINE_EXCEEDED, now, kind, "the deadline passed")
        kind, why = FailureKind.STALLED, f"nothing of it was read for {limits.stall_s:g} s"
        actions += end(self._ledger.stalled(now), GenerationStatus.CANCELLED, now, kind, why)
        kind, why = FailureKind.CONNECTION_LOST, f"the client was silent for {limits.lease_s:g} s"
        for peer in self._ledger.silent(now):
            actions += end(self._ledger.of(peer), GenerationStatus.FAILED, now, kind, why)
        self._ledger.look_ahead()
        return actions
