"""What a worker does with messages and steps. Logic only: no socket, no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from max_interfaces import Attempt, DeviceLost, Failure, FailureKind, RequestID, RequestOptions, WireError
from max_interfaces.messages import (
    LONGEST_S,
    Alive,
    Beat,
    Equip,
    Held,
    ModelInfo,
    Pace,
    Ready,
    Retire,
    Start,
    Stop,
)
from max_interfaces.options import DEFAULT_OPTIONS
from max_interfaces.wire import AnyRequest, Frame, decode_request

from ..problems import failure_of, report, sendable
from ..registry import AnyServed
from ..sockets import MAX_MESSAGE_BYTES
from .adapters import AdapterStock
from .links import Links
from .stepping import Outgoing, Running, Stepper, failed

OFFER_AGAIN_S = 0.5
GRACE_S = 1.0  # from a deadline until a worker that has heard nothing of its dispatcher keeps it itself


class WorkerCore:
    """`take` a message, `step` the pipeline; both return what is to be sent.

    It may serve several dispatchers, told apart by their number; a request belongs to the one that it came from. No
    frame that it sends has more than `most_bytes`.
    """

    def __init__(
        self,
        served: AnyServed,
        model: str,
        name: str = "worker",
        *,
        links: int = 1,
        lease_s: float = 3.0,
        supervised: bool = False,
        pid: int = 0,
        most_bytes: int = MAX_MESSAGE_BYTES,
        adapter_folder: str | None = None,
    ) -> None:
        self._served = served
        self._running: dict[str, Running] = {}
        self._resting = 0
        self._late_at = math.inf  # the first of them is late then, or later
        self._stepper = Stepper(served.pipeline, self._running, self._release, most_bytes)
        self.adapters = AdapterStock(served.adapters, adapter_folder, links)
        self.links = Links(links, served.max_requests, lease_s)
        self.model = model
        self.name = name
        self.gathers = served.one_step
        self.step_s = served.step_s
        self._supervised = supervised
        self._pid = pid
        self.steps = 0
        self.retired = False  # nobody wants it any more

    @property
    def info(self) -> ModelInfo:
        """What clients should know of the model."""
        info, adapters = self._served.info(self.model), self.adapters
        return msgspec.structs.replace(info, adapters=adapters.given, loads_adapters=adapters.may_load)

    @property
    def in_flight(self) -> int:
        """How many requests it has."""
        return len(self._running)

    @property
    def active(self) -> bool:
        """Whether a step would move any of them."""
        return len(self._running) > self._resting

    def ready(self, link: int) -> Outgoing:
        """That it can take requests."""
        share = self.links.all[link].credits
        return link, Ready(self.name, (self.info,), share, self._served.max_bytes, self._supervised), ()

    def alive(self, link: int, age_s: float = 0.0, busy_s: float = 0.0) -> Outgoing:
        """That it lives, and what it has of a dispatcher's."""
        held = tuple([Held(key, one.attempt, one.resting) for key, one in self._running.items() if one.link == link])
        share, gauges = self.links.all[link].credits, {"pid": self._pid, **self._gauges()}
        age_s, revision, fitted = min(age_s, LONGEST_S), self.adapters.revision(link), self.adapters.fitted(link)
        voices = self._served.all_voices if self._served.added_voices is not None else ()
        return link, Alive(self.name, self.steps, held, share, age_s, busy_s, gauges, revision, fitted, voices), ()

    def take(self, message: object, payload: Sequence[Frame] = (), now: float = 0.0, link: int = 0) -> list[Outgoing]:
        """A message from a dispatcher."""
        self.links.hears(link, now)
        match message:
            case Start():
                return self._start(message, payload, now, link)
            case Stop(request_id, attempt):
                running = self._of(request_id, attempt, link)
                if running is not None:
                    self._release(running.request_id)
            case Pace(request_id, attempt, rest):
                running = self._of(request_id, attempt, link)
                if running is not None:
                    self._resting += rest - running.resting
                    running.resting = rest
            case Equip():
                self.adapters.equip(link, message)
                return [self.alive(link)]
            case Beat(waiting, known):
                return self._beaten(waiting, known, link, now)
            case Retire(reason):
                self.links.retires(link, reason)
                self.retired = self.links.retired
                self._forget(link)
                return self._reshared()
        return []

    def step(self, now: float = 0.0) -> list[Outgoing]:
        """Move every running request that does not rest one step; one message for each client that gets something.

        DeviceLost if nothing will ever move again.
        """
        if not self._running:
            return []
        if now >= self._late_at:
            self._expire(now)
        active = []
        for one in self._running.values():
            if not one.resting:
                active.append(one.request_id)
        if not active:
            return []
        outgoing = self._stepper.step(active)
        self.steps += 1
        return outgoing

    def tick(self, now: float) -> list[Outgoing]:
        """Time has passed: what is far too late ends, and dispatchers that are gone lose what they had here."""
        self._expire(now)
        gone = self.links.forsaken(now)
        for link in gone:
            self._forget(link)
        return self._reshared() if gone else []

    def _gauges(self) -> dict[str, int]:
        try:
            return self._served.gauges()
        except Exception as problem:  # a third party's; nothing depends on it
            report(problem)
            return {}

    def _expire(self, now: float) -> None:
        for running in [one for one in self._running.values() if one.late_at <= now]:
            self._release(running.request_id)
        self._late_at = min((one.late_at for one in self._running.values()), default=math.inf)

    def _of(self, request_id: str, attempt: int, link: int) -> Running | None:
        running = self._running.get(request_id)
        return running if running is not None and (running.attempt, running.link) == (attempt, link) else None

    def _beaten(self, waiting: int, known: bool, number: int, now: float) -> list[Outgoing]:
        link = self.links.all[number]
        link.waiting = waiting
        if known:
            return self._reshared()
        if now < link.offered + OFFER_AGAIN_S:
            return []  # the answer to a sign of life that was on its way when we offered ourselves
        link.offered = now
        self._forget(number)
        changed = self._reshared()
        return [self.ready(number), *changed]  # before a sign of life, which it could only refuse again

    def _reshared(self) -> list[Outgoing]:
        return [self.alive(link) for link in self.links.share()]

    def _forget(self, link: int) -> None:
        """Release all that a dispatcher had here."""
        for running in [one for one in self._running.values() if one.link == link]:
            self._release(running.request_id)
        self.adapters.forget(link)

    def _start(self, start: Start, payload: Sequence[Frame], now: float, link: int) -> list[Outgoing]:
        key, attempt = start.request_id, start.attempt
        older = self._running.get(key)
        if older is not None and older.link != link:
            text = f"request {key!r} of another server is running on this worker; give a new id"
            return [failed(link, key, attempt, Failure(FailureKind.DUPLICATE_ID, text))]
        if older is not None:
            if older.attempt >= attempt:
                return []  # a repeat on the way, or an attempt that is over
            self._release(older.request_id)  # the server has begun it anew, so it has ended the old one
        if start.adapters and not self.adapters.has(link, start.adapters):
            return []  # as if lost on the way: the next sign of life says that neither is here
        try:
            request = self._decode(key, payload)
        except ValueError as problem:
            return [failed(link, key, attempt, Failure(FailureKind.INVALID_REQUEST, sendable(str(problem))))]
        try:
            self._served.pipeline.admit(_attempt(request, start))
        except DeviceLost:
            raise
        except ValueError as problem:
            self._release(request.request_id)
            return [failed(link, key, attempt, Failure(FailureKind.INVALID_REQUEST, sendable(str(problem))))]
        except Exception as problem:  # whatever a pipeline does wrong must not take the others down
            report(problem)
            self._release(request.request_id)
            return [failed(link, key, attempt, failure_of(problem))]
        self.links.all[link].running += 1
        late_at = now + start.deadline_s + GRACE_S
        self._late_at = min(self._late_at, late_at)
        self._running[key] = Running(
            request.request_id, link, start.peer, start.serial, attempt, start.next_seq, len(start.tokens), late_at
        )
        return []

    def _decode(self, key: str, payload: Sequence[Frame]) -> AnyRequest:
        request = decode_request(payload)
        kind: type = self._served.request_type
        if not isinstance(request, kind):
            raise ValueError(f"model {self.model!r} takes {kind.__name__}, got {type(request).__name__}")
        if request.request_id.value != key:
            raise WireError("the request's id is not the one it was announced by")
        return request

    def _release(self, key: RequestID) -> None:
        running = self._running.pop(key.value, None)
        if running is not None:
            self._resting -= running.resting
            self.links.all[running.link].running -= 1
        try:
            self._served.pipeline.release(key)
        except Exception as problem:  # what it could not free is lost; the other requests need not be
            report(problem)


def _attempt(request: AnyRequest, start: Start) -> Attempt[AnyRequest]:
    options = DEFAULT_OPTIONS  # as nearly always
    if start.priority or start.tenant:
        options = RequestOptions(priority=start.priority, tenant=start.tenant)
    return Attempt(
        request,
        start.seed,
        start.attempt,
        start.tokens,
        start.next_sample,
        start.next_seq,
        options,
        start.first_sample,
    )
