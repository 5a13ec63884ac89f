"""The dispatcher: owns every request until its one terminal message. Logic only: no socket, no clock.

Every event is handled by one method that returns what is to be sent. Requests are admitted, wait in line, run on a
worker with free credits, and end exactly once: `_end` is the only way out of the table.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

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
    Event,
    Kill,
    PeerGone,
    Received,
    Send,
    WorkerExited,
    WorkersGivenUp,
)
from .table import Catalogue, ClientRecord, Deadlines, LiveRequest, WaitingLine, WorkerRecord

RETRY_AFTER_S = 1.0  # by then a waiting line of short requests has moved


class Dispatcher:
    """`handle(event, now)` returns the actions to take, in order. `now` is in seconds on any steady clock."""

    def __init__(self, limits: Limits, expected_models: Iterable[str]) -> None:
        self.limits = limits
        self.catalogue = Catalogue(frozenset(expected_models))
        self.requests: dict[str, LiveRequest] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self.workers: dict[str, WorkerRecord] = {}
        self.waiting = WaitingLine()
        self.draining = False
        self.problem = ""  # why no worker can be had, once that is so
        self._deadlines = Deadlines()
        self._asking: set[bytes] = set()  # clients that wait to be told what is served
        self._worker_names: dict[bytes, str] = {}

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; then look at what is overdue."""
        match event:
            case Received():
                actions = self._received(event, now)
            case PeerGone(peer, reason):
                actions = self._peer_gone(peer, reason)
            case WorkerExited(name, reason):
                actions = self._worker_gone(name, reason)
            case WorkersGivenUp(reason):
                actions = self._given_up(reason)
            case DrainBegins():
                self.draining = True
                actions = [action for key in list(self.requests) for action in self._refuse_waiting(key)]
            case _:
                actions = []
        return actions + self._overdue(now)

    def next_wake(self) -> float | None:
        """When `handle(Tick(), now)` is due at the latest, or None."""
        times = [worker.silent_after for worker in self.workers.values()]
        times += [client.seen + self.limits.lease_s for client in self.clients.values()]
        if self._deadlines.next is not None:
            times.append(self._deadlines.next)
        return min(times, default=None)

    # -- messages ------------------------------------------------------------------------------------------------

    def _received(self, event: Received, now: float) -> list[Action]:
        peer = event.peer
        match event.message:
            case Delivery() as delivery:
                return self._delivered(event, delivery, now)
            case Submit() as submit:
                return self._submitted(peer, submit, event, now)
            case Cancel(request_id):
                return self._cancelled(peer, request_id)
            case Ping(owner):
                if owner in self.clients:
                    self.clients[owner].seen = now
                return []
            case Describe():
                self._asking.add(peer)
                return self._describe()
            case Goodbye():
                return self._peer_gone(peer, "the client left")
            case Alive() as alive:
                return self._alive(peer, alive, now)
            case Ready() as ready:
                return self._ready(peer, ready, now)
            case Ended() as ended:
                return self._worker_ended(peer, ended)
            case Unfit(name, reason):
                return self._worker_gone(name, reason)

    def _submitted(self, peer: bytes, submit: Submit, event: Received, now: float) -> list[Action]:
        refusal = self._refusal(submit)
        if refusal is not None:
            kind, message = refusal
            retry = RETRY_AFTER_S if kind is FailureKind.OVERLOADED else None
            ended = Ended(submit.request_id, GenerationStatus.FAILED, kind, message[:4096], retry)
            return [Send(peer, ended)]
        request = LiveRequest(
            submit.request_id,
            peer,
            submit.model,
            now + submit.deadline_s,
            submit.priority,
            secrets.randbits(62) if submit.seed is None else submit.seed,
            event.payload,
        )
        self.requests[request.request_id] = request
        self.clients.setdefault(peer, ClientRecord(now)).requests.add(request.request_id)
        self._deadlines.add(request.deadline, request.request_id)
        self.waiting.add(request)
        return self._assign(request.model)

    def _refusal(self, submit: Submit) -> tuple[FailureKind, str] | None:
        if submit.request_id in self.requests:
            return FailureKind.DUPLICATE_ID, f"request {submit.request_id!r} is still running; give a new id"
        if self.draining:
            return FailureKind.SHUTTING_DOWN, "the server is shutting down"
        if submit.model not in self.catalogue.names:
            served = ", ".join(self.catalogue.names) or "none"
            return FailureKind.UNKNOWN_MODEL, f"no model {submit.model!r} is served here; served: {served}"
        if self.problem:
            return FailureKind.WORKER_DIED, f"no worker serves {submit.model!r}: {self.problem}"
        if len(self.requests) >= self.limits.max_requests:
            return FailureKind.OVERLOADED, f"{len(self.requests)} requests are live, the most that may be"
        if len(self.waiting) >= self.limits.max_waiting and not self._free_worker(submit.model):
            return FailureKind.OVERLOADED, f"{len(self.waiting)} requests wait already"
        return None

    def _delivered(self, event: Received, delivery: Delivery, now: float) -> list[Action]:
        worker = self.workers.get(self._worker_names.get(event.peer, ""))
        if worker is None:
            return []
        worker.silent_after = now + self.limits.silence_s
        stale: list[int] = []
        models: set[str] = set()
        for index, head in enumerate(delivery.heads):
            request = self.requests.get(head.request_id)
            if request is None or request.worker != worker.name or request.attempt != head.attempt:
                stale.append(index)
                continue
            request.tokens.extend(head.tokens)
            request.next_sample = head.first_sample + head.samples
            request.next_seq = head.seq + 1
            if head.status is not GenerationStatus.ACTIVE:
                models.add(request.model)
                self._forget(request)
        actions: list[Action] = []
        if not stale:
            actions.append(Send(delivery.peer, delivery, event.payload, event.header))
        elif len(stale) < len(delivery.heads):
            fresh = Delivery(delivery.peer, delivery.heads, tuple(stale))
            actions.append(Send(delivery.peer, fresh, event.payload, encode_header(fresh)))
        for model in models:
            actions += self._assign(model)
        return actions

    def _cancelled(self, peer: bytes, request_id: str) -> list[Action]:
        request = self.requests.get(request_id)
        if request is None or request.peer != peer:
            return []
        return self._end(request, GenerationStatus.CANCELLED)

    def _worker_ended(self, peer: bytes, ended: Ended) -> list[Action]:
        request = self.requests.get(ended.request_id)
        name = self._worker_names.get(peer)
        if request is None or request.worker != name or request.attempt != ended.attempt:
            return []
        self._forget(request)
        return [Send(request.peer, ended), *self._assign(request.model)]

    # -- workers -------------------------------------------------------------------------------------------------

    def _alive(self, peer: bytes, alive: Alive, now: float) -> list[Action]:
        until = now + alive.busy_s + self.limits.silence_s
        worker = self.workers.get(alive.worker)
        if worker is None:
            worker = self.workers[alive.worker] = WorkerRecord(alive.worker, peer, until)
            self._worker_names[peer] = alive.worker
        worker.silent_after = until
        return []

    def _ready(self, peer: bytes, ready: Ready, now: float) -> list[Action]:
        self._alive(peer, Alive(ready.worker), now)
        worker = self.workers[ready.worker]
        worker.models = frozenset(model.name for model in ready.models)
        worker.credits = ready.credits
        self.catalogue.known.update({model.name: model for model in ready.models})
        actions = self._describe()
        for model in worker.models:
            actions += self._assign(model)
        return actions

    def _assign(self, model: str) -> list[Action]:
        """Give waiting requests to workers with free credits."""
        actions: list[Action] = []
        while worker := self._free_worker(model):
            request_id = self.waiting.pop(model)
            if request_id is None:
                break
            actions.append(self._start(self.requests[request_id], worker))
        return actions

    def _free_worker(self, model: str) -> WorkerRecord | None:
        able = [worker for worker in self.workers.values() if model in worker.models and worker.free > 0]
        return min(able, key=lambda worker: len(worker.running) / worker.credits, default=None)

    def _start(self, request: LiveRequest, worker: WorkerRecord) -> Send:
        request.worker = worker.name
        request.attempt += 1
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

    def _worker_gone(self, name: str, reason: str) -> list[Action]:
        worker = self.workers.pop(name, None)
        if worker is None:
            return []
        self._worker_names.pop(worker.peer, None)
        lost = [self.requests[key] for key in sorted(worker.running)]
        return [
            action
            for request in lost
            for action in self._end(request, GenerationStatus.FAILED, FailureKind.WORKER_DIED, f"{name} {reason}")
        ]

    def _given_up(self, reason: str) -> list[Action]:
        self.problem = reason
        actions = self._describe()
        for request in list(self.requests.values()):
            actions += self._end(request, GenerationStatus.FAILED, FailureKind.WORKER_DIED, reason)
        return actions

    # -- ends ----------------------------------------------------------------------------------------------------

    def _peer_gone(self, peer: bytes, reason: str) -> list[Action]:
        if peer in self._worker_names:
            return self._worker_gone(self._worker_names[peer], reason)
        self._asking.discard(peer)
        client = self.clients.pop(peer, None)
        if client is None:
            return []
        requests = [self.requests[key] for key in sorted(client.requests)]
        return [action for request in requests for action in self._end(request, GenerationStatus.CANCELLED)]

    def _refuse_waiting(self, request_id: str) -> list[Action]:
        request = self.requests[request_id]
        if request.worker is not None:
            return []
        return self._end(request, GenerationStatus.FAILED, FailureKind.SHUTTING_DOWN, "the server is shutting down")

    def cancel_all(self) -> list[Action]:
        """End whatever still runs: the drain's time is up."""
        return [
            action
            for request in list(self.requests.values())
            for action in self._end(request, GenerationStatus.CANCELLED, FailureKind.SHUTTING_DOWN, "shut down")
        ]

    def _end(
        self, request: LiveRequest, status: GenerationStatus, kind: FailureKind | None = None, message: str = ""
    ) -> list[Action]:
        """The terminal message of a request that no worker can end; its worker, if any, is told to forget it."""
        worker = self.workers.get(request.worker or "")
        self._forget(request)
        actions: list[Action] = [Send(request.peer, Ended(request.request_id, status, kind, message[:4096]))]
        if worker is not None:
            actions.insert(0, Send(worker.peer, Stop(request.request_id, request.attempt)))
            actions += self._assign(request.model)
        return actions

    def _forget(self, request: LiveRequest) -> None:
        del self.requests[request.request_id]
        self.waiting.remove(request.request_id)
        worker = self.workers.get(request.worker or "")
        if worker is not None:
            worker.running.discard(request.request_id)
        client = self.clients.get(request.peer)
        if client is not None:
            client.requests.discard(request.request_id)
            if not client.requests:
                del self.clients[request.peer]  # nothing left that a lease could protect

    def _overdue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        for request in self._deadlines.due(now, self.requests):
            message = "the deadline passed"
            actions += self._end(request, GenerationStatus.DEADLINE_EXCEEDED, FailureKind.DEADLINE_EXCEEDED, message)
        for peer in [peer for peer, client in self.clients.items() if client.seen + self.limits.lease_s <= now]:
            actions += self._peer_gone(peer, "the client fell silent")
        for worker in [worker for worker in self.workers.values() if worker.silent_after <= now]:
            reason = f"made no progress for {self.limits.silence_s:g} s"
            actions += [Kill(worker.name, reason), *self._worker_gone(worker.name, reason)]
        return actions

    def _describe(self) -> list[Action]:
        """Tell those who asked what is served, once that is settled."""
        if not self.problem and not self.catalogue.complete:
            return []
        known = self.catalogue.known
        described = Described(tuple(known[name] for name in sorted(known)), self.problem)
        actions: list[Action] = [Send(peer, described) for peer in sorted(self._asking)]
        self._asking.clear()
        return actions
