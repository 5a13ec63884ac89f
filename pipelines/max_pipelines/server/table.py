"""Who is there and what is under way: the dispatcher's records, which are all the state it has."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from max_interfaces.messages import ModelInfo

from .events import Frames


@dataclass(slots=True)
class LiveRequest:
    """A request between its admission and its one terminal message.

    `tokens`, `next_sample` and `next_seq` are what the listener has: enough for another worker to go on from.
    """

    request_id: str
    peer: bytes
    model: str
    deadline: float
    priority: int
    seed: int
    payload: Frames
    worker: str | None = None
    attempt: int = 0
    tokens: list[int] = field(default_factory=list)
    next_sample: int = 0
    next_seq: int = 0


@dataclass(slots=True)
class ClientRecord:
    """A client that has requests: when it was last heard, and which are its own."""

    seen: float
    requests: set[str] = field(default_factory=set)


@dataclass(slots=True)
class WorkerRecord:
    """A worker: what it serves, how much it can take, and when it must be heard from again."""

    name: str
    peer: bytes
    silent_after: float
    models: frozenset[str] = frozenset()
    credits: int = 0
    running: set[str] = field(default_factory=set)

    @property
    def free(self) -> int:
        """How many more requests it takes."""
        return self.credits - len(self.running)


class WaitingLine:
    """Requests that wait for a worker, by model: higher priority first, then in order of arrival."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, int, str]]] = {}
        self._order = itertools.count()
        self._waiting: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: LiveRequest) -> None:
        """Put a request at its place in the line."""
        self._waiting.add(request.request_id)
        heap = self._heaps.setdefault(request.model, [])
        heapq.heappush(heap, (-request.priority, next(self._order), request.request_id))

    def remove(self, request_id: str) -> None:
        """Take a request out; its entry is passed over when its turn comes."""
        self._waiting.discard(request_id)

    def pop(self, model: str) -> str | None:
        """The next request for `model`, or None."""
        heap = self._heaps.get(model, [])
        while heap:
            request_id = heapq.heappop(heap)[2]
            if request_id in self._waiting:
                self._waiting.discard(request_id)
                return request_id
        return None


class Deadlines:
    """Times by which requests must have ended, the nearest first. Entries of ended requests are dropped lazily."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def add(self, deadline: float, request_id: str) -> None:
        """Watch a request."""
        heapq.heappush(self._heap, (deadline, request_id))

    def due(self, now: float, live: dict[str, LiveRequest]) -> list[LiveRequest]:
        """The live requests whose time is up."""
        late: list[LiveRequest] = []
        while self._heap and self._heap[0][0] <= now:
            request = live.get(heapq.heappop(self._heap)[1])
            if request is not None and request.deadline <= now:
                late.append(request)
        if len(self._heap) > 2 * len(live) + 64:  # mostly ended requests: keep memory in proportion to the live ones
            self._heap = [(request.deadline, key) for key, request in live.items()]
            heapq.heapify(self._heap)
        return late

    @property
    def next(self) -> float | None:
        """The nearest time, or None."""
        return self._heap[0][0] if self._heap else None


@dataclass(slots=True)
class Catalogue:
    """What is served: the models expected from the start, and what ready workers said of them."""

    expected: frozenset[str]
    known: dict[str, ModelInfo] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Every model that a request may ask for."""
        return sorted(self.expected | self.known.keys())

    @property
    def complete(self) -> bool:
        """True once a worker has been ready for every expected model."""
        return self.expected <= self.known.keys()
