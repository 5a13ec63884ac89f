"""A dispatcher on a virtual clock, without sockets: what tests of its logic talk to."""

from __future__ import annotations

from collections.abc import Iterable

from max_interfaces import FailureKind, GenerationStatus
from max_interfaces.messages import (
    Alive,
    Cancel,
    ChunkHead,
    Delivery,
    Ended,
    Header,
    Held,
    ModelInfo,
    Ready,
    Start,
    Submit,
    ToClient,
)
from max_pipelines.config import Limits
from max_pipelines.server.dispatcher import Dispatcher
from max_pipelines.server.events import Action, Event, Received, Send

MODEL = "voice"
RATE = 100  # samples per second
ACTIVE, DONE = GenerationStatus.ACTIVE, GenerationStatus.END_OF_SEQUENCE


class Desk:
    """Talks to a dispatcher as clients and workers do, and keeps what it sent."""

    def __init__(self, limits: Limits | None = None, models: Iterable[str] = (MODEL,), active: int = 1) -> None:
        self.first_sample = 0  # of each sound
        self.dispatcher = Dispatcher(limits or Limits(), models, active)
        self.now = 1000.0
        self.sent: list[Action] = []
        self._serial = 0

    def tell(self, event: Event) -> list[Action]:
        """Let an event happen."""
        actions = self.dispatcher.handle(event, self.now)
        self.sent += actions
        return actions

    def hear(self, peer: bytes, message: Header) -> list[Action]:
        """A message arrives."""
        return self.tell(Received(peer, message, b"as it came", (b"payload",)))

    def worker(
        self, name: str = "w1", places: int = 2, models: Iterable[str] = (MODEL,), *, supervised: bool = False
    ) -> list[Action]:
        """A worker starts and is ready."""
        self.hear(name.encode(), Alive(name, busy_s=60.0))
        infos = tuple(ModelInfo(model, "audio_generation", RATE) for model in models)
        return self.hear(name.encode(), Ready(name, infos, places, supervised=supervised))

    def alive(self, name: str = "w1") -> list[Action]:
        """A worker says that it lives, and has what it was given."""
        requests = self.dispatcher.requests
        running = sorted(self.dispatcher.workers[name.encode()].running)
        return self.hear(name.encode(), Alive(name, held=tuple(Held(key, requests[key].attempt) for key in running)))

    def submit(
        self,
        key: str,
        peer: bytes = b"c1",
        *,
        model: str = MODEL,
        deadline_s: float = 60.0,
        priority: int = 0,
        tenant: str = "",
        prefix: int = 0,
    ) -> list[Action]:
        """A client asks for something."""
        self._serial += 1
        return self.hear(peer, Submit(key, model, deadline_s, self._serial, priority, tenant, None, prefix))

    def cancel(self, key: str, peer: bytes = b"c1") -> list[Action]:
        """A client wants a request of its own no more."""
        request = self.dispatcher.requests.get(key)
        return self.hear(peer, Cancel(key, request.serial if request else 0))

    def chunk(
        self, key: str, attempt: int, seq: int, status: GenerationStatus = ACTIVE, *, worker: str = "w1"
    ) -> list[Action]:
        """A worker delivers a chunk of ten samples and one token."""
        return self.hear(worker.encode(), Delivery(self.peer(key), (self.head(key, attempt, seq, status),)))

    def head(self, key: str, attempt: int, seq: int, status: GenerationStatus = ACTIVE) -> ChunkHead:
        """Where such a chunk belongs."""
        request = self.dispatcher.requests.get(key)
        return ChunkHead(
            key, request.serial if request else 0, attempt, seq, self.first_sample + 10 * seq, 10, status, seq, (seq,)
        )

    def peer(self, key: str) -> bytes:
        """The client of a request."""
        return self.dispatcher.requests[key].peer if key in self.dispatcher.requests else b"c1"

    def attempt(self, key: str) -> int:
        """The number of a running request's attempt."""
        return self.dispatcher.requests[key].attempt

    def load(self, worker: str = "w1") -> int:
        """How many requests a worker has."""
        return len(self.dispatcher.workers[worker.encode()].running)

    @property
    def is_idle(self) -> bool:
        """True when nothing is under way and nothing is kept of what was."""
        desk = self.dispatcher
        running = any(worker.running for worker in desk.workers.values())
        waiting = len(desk.waiting) + len(desk.suspects)
        return not (desk.requests or desk.clients or waiting or running or desk._ledger.bytes or desk._ledger.resting)


def started(actions: Iterable[Action]) -> list[tuple[str, str]]:
    """(request, worker) of every Start."""
    sends = [action for action in actions if isinstance(action, Send)]
    return [(send.message.request_id, send.peer.decode()) for send in sends if isinstance(send.message, Start)]


def to(peer: bytes, actions: Iterable[Action]) -> list[Header]:
    """The messages sent to a peer."""
    return [action.message for action in actions if isinstance(action, Send) and action.peer == peer]


def ends(actions: Iterable[Action]) -> list[tuple[str, GenerationStatus, FailureKind | None]]:
    """Every terminal message that the dispatcher made."""
    messages = [action.message for action in actions if isinstance(action, Send)]
    return [(m.request_id, m.status, m.kind) for m in messages if isinstance(m, Ended)]


def ends_in(message: ToClient) -> list[str]:
    """The requests whose terminal message this is."""
    if isinstance(message, Ended):
        return [message.request_id]
    if isinstance(message, Delivery):
        heads = [head for index, head in enumerate(message.heads) if index not in message.skip]
        return [head.request_id for head in heads if head.status is not ACTIVE]
    return []
