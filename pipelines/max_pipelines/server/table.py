"""Who is there and what is under way: the dispatcher's records, which are all the state it has.

The records that come and go with every request are Structs: made in C, which a server that slept feels.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import msgspec

from max_interfaces.messages import Adapter, Fitted, ModelInfo

from .events import Frames

SLACK = 64  # entries of ended requests that a heap may always hold


class LiveRequest(msgspec.Struct, eq=False):
    """A request between its admission and its one terminal message.

    `tokens`, `first_sample`, `next_sample` and `next_seq` are what a worker has shown for it: enough for another to go
    on from.
    """

    request_id: str
    peer: bytes
    serial: int
    model: str
    deadline: float
    priority: int
    tenant: str
    seed: int
    payload: Frames
    size: int = 0  # bytes of the payload
    prefix: int = 0  # a number for how the prompt begins, 0 if that is all its own
    adapters: tuple[Adapter, ...] = ()  # what it runs with, of all that was loaded while serving
    worker: WorkerRecord | None = None
    attempt: int = 0
    tokens: list[int] = []  # a fresh one for each, as Structs do it
    first_sample: int = 0
    next_sample: int = 0
    next_seq: int = 0
    # -- what became of it on its workers
    tried_at: float = 0.0  # when the present attempt began
    proven: bool = False  # it has made progress, or is not to blame for lack of it
    suspect: bool = False  # it was there when a worker died, and may have been why
    broken: int = 0  # workers that died while it alone could be why
    losses: frozenset[int] = frozenset()  # of workers that died while it was there, and it is not known why
    torn: int = 0  # times that something of it was lost on the way
    missing: int = 0  # signs of life of its worker, one after the other, that knew nothing of it
    # -- how far its reader is; beyond the marks it is to be looked at
    begun: float = 0.0  # when its first sound left
    read_sample: int = 0
    read_seq: int = 0  # outputs read
    told_seq: int = 0  # … as the client told last: fewer, once what it kept ahead of time is read for real
    mark_sample: float = math.inf
    mark_seq: int = 2**31
    watched: int = 0  # the client was asked to tell when it has read so many outputs; 0: it was not asked
    resting: bool = False
    stalls_at: float = math.inf  # it is cancelled unless something of it is read before


class ClientRecord(msgspec.Struct, eq=False):
    """A client that has requests: when it was last heard, and which are its own."""

    seen: float
    requests: set[str] = set()


class WorkerRecord(msgspec.Struct, eq=False):
    """A worker: what it serves, how much it can take, and when it must be heard from again.

    While suspects are on `trial` there, nobody else begins, and beside one that is on trial `alone` not even another
    suspect: if the worker dies, it is known why.
    """

    name: str
    peer: bytes
    silent_after: float = math.inf
    models: frozenset[str] = frozenset()
    credits: int = 0  # 0 until it is ready
    credit_bytes: int = 0
    standby: bool = False
    running: set[str] = set()
    bytes: int = 0  # of the requests that run there
    unproven: int = 0  # of those that run, how many have yet to make progress
    trial: set[str] = set()
    alone: bool = False
    left_at: float = 0.0  # when the last of `leaving` ended
    leaving: dict[str, int] = {}  # suspects that ended on trial, and the signs of life since then without them
    warm: dict[int, None] = {}  # prefixes it has seen, the latest last
    # -- of the adapters that are loaded while serving: the last list that it was told; what it has, and why not
    revision: int = 0
    adapters: frozenset[int] = frozenset()
    refused: Mapping[int, Fitted] = {}
    # -- what it says of itself
    heard: float = 0.0
    steps: int = 0
    age_s: float = 0.0
    gauges: Mapping[str, int] = {}


class Deadlines:
    """Times by which requests must have ended, the nearest first. Entries of ended requests are dropped lazily."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def add(self, request: LiveRequest, live: dict[str, LiveRequest]) -> None:
        """Watch a request, one of those that live."""
        heapq.heappush(self._heap, (request.deadline, request.request_id))
        if len(self._heap) > 2 * len(live) + SLACK:
            self._heap = [(request.deadline, key) for key, request in live.items()]
            heapq.heapify(self._heap)

    def due(self, now: float, live: dict[str, LiveRequest]) -> list[LiveRequest]:
        """The live requests whose time is up."""
        late: dict[str, LiveRequest] = {}  # an id that was used before may have an entry of then as well
        while self._heap and self._heap[0][0] <= now:
            request = live.get(heapq.heappop(self._heap)[1])
            if request is not None and request.deadline <= now:
                late[request.request_id] = request
        return list(late.values())

    @property
    def next(self) -> float:
        """The nearest time, or infinity."""
        return self._heap[0][0] if self._heap else math.inf


@dataclass(slots=True)
class Catalogue:
    """What is served: the models expected from the start, and what ready workers said of them, which are no others."""

    expected: frozenset[str]
    known: dict[str, ModelInfo] = field(default_factory=dict)

    def __contains__(self, model: str) -> bool:
        return model in self.expected

    @property
    def names(self) -> list[str]:
        """Every model that a request may ask for."""
        return sorted(self.expected)

    @property
    def complete(self) -> bool:
        """True once a worker has been ready for every expected model."""
        return self.expected <= self.known.keys()

    def hear(self, models: Collection[str], voices: tuple[str, ...]) -> None:
        """A worker tells which voices there are now, of those of its models whose voices may come and go."""
        for name in models:
            info = self.known[name]
            if info.takes_samples and info.voices != voices:
                self.known[name] = msgspec.structs.replace(info, voices=voices)

    def rate(self, model: str) -> int:
        """Samples per second of a model's sound, 0 if it has none."""
        info = self.known.get(model)
        return info.sample_rate if info is not None else 0
