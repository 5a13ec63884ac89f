"""Who is there and what is under way: the dispatcher's records, which are all the state it has.

The records that come and go with every request are Structs: made in C, which a server that slept feels.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass, field

import msgspec

from max_interfaces.messages import ModelInfo

from .events import Frames

SLACK = 64  # entries of ended requests that a heap may always hold


class LiveRequest(msgspec.Struct, eq=False):
    """A request between its admission and its one terminal message.

    `tokens`, `next_sample` and `next_seq` are what the listener has: enough for another worker to go on from.
    """

    request_id: str
    peer: bytes
    model: str
    deadline: float
    priority: int
    tenant: str
    seed: int
    payload: Frames
    worker: WorkerRecord | None = None
    attempt: int = 0
    tokens: list[int] = []  # a fresh one for each, as Structs do it
    next_sample: int = 0
    next_seq: int = 0


class ClientRecord(msgspec.Struct, eq=False):
    """A client that has requests: when it was last heard, and which are its own."""

    seen: float
    requests: set[str] = set()


class WorkerRecord(msgspec.Struct, eq=False):
    """A worker: what it serves, how much it can take, and when it must be heard from again."""

    name: str
    peer: bytes
    silent_after: float = math.inf
    models: frozenset[str] = frozenset()
    credits: int = 0  # 0 until it is ready
    running: set[str] = set()


class WaitingLine:
    """Requests that wait for a worker, by model: higher priority first, then in order of arrival."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, int, str]]] = {}
        self._order = itertools.count()
        self._places: dict[str, int] = {}  # an entry whose number is not here has left the line

    def __len__(self) -> int:
        return len(self._places)

    def add(self, request: LiveRequest) -> None:
        """Put a request at its place in the line."""
        place = self._places[request.request_id] = next(self._order)
        heap = self._heaps.setdefault(request.model, [])
        heapq.heappush(heap, (-request.priority, place, request.request_id))
        if len(heap) > 2 * len(self._places) + SLACK:
            heap[:] = [entry for entry in heap if self._places.get(entry[2]) == entry[1]]
            heapq.heapify(heap)

    @property
    def models(self) -> list[str]:
        """Those for which somebody may wait."""
        return sorted(self._heaps) if self._places else []

    def remove(self, request_id: str) -> None:
        """Take a request out; its entry is passed over when its turn comes."""
        self._places.pop(request_id, None)

    def pop(self, model: str) -> str | None:
        """The next request for `model`, or None."""
        heap = self._heaps.get(model)
        while heap:
            _, place, request_id = heapq.heappop(heap)
            if self._places.get(request_id) == place:
                del self._places[request_id]
                return request_id
        return None


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
