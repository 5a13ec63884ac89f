"""Any schedule at all: clients come, cancel, fall silent and leave; workers crash; messages come late and twice.

Whatever happens, each submission gets exactly one terminal message, its chunks arrive in order and from one attempt,
nobody who is gone is spoken to, and in the end nothing is left.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import given, settings

from max_interfaces import FailureKind
from max_interfaces.messages import (
    Alive,
    Cancel,
    ChunkHead,
    Delivery,
    Ended,
    Goodbye,
    Ping,
    Start,
    Stop,
    WorkerMessage,
)
from max_pipelines.config import Limits
from max_pipelines.server.events import Action, Kill, PeerGone, Received, Send, Tick, WorkerExited
from tests.pipelines.desk import ACTIVE, DONE, Desk, ends_in

CREDITS = 2
CHUNKS = 3
IDS = ("a", "b", "c", "d", "e")  # few, so that they are used again and again


@dataclass
class Submission:
    """One request as its client sees it."""

    terminals: int = 0
    attempt: int = 0
    chunks: int = 0


@dataclass
class SimulatedClient:
    """Its submissions by id, the newest last."""

    peer: bytes
    pings: bool = True
    submissions: dict[str, list[Submission]] = field(default_factory=dict)

    def hear(self, message: object) -> None:
        """Take a message, and complain."""
        if isinstance(message, Delivery):
            for index, head in enumerate(message.heads):
                if index not in message.skip:
                    self._chunk(head)
        if isinstance(message, Ended | Delivery):
            for key in ends_in(message):
                self._ended(key, message)

    def _chunk(self, head: ChunkHead) -> None:
        current = self._open(head.request_id)[0]
        assert head.attempt == (current.attempt or head.attempt)
        assert head.seq == current.chunks
        current.attempt, current.chunks = head.attempt, current.chunks + 1

    def _ended(self, key: str, message: Ended | Delivery) -> None:
        refused = isinstance(message, Ended) and message.kind is FailureKind.DUPLICATE_ID
        self._open(key)[-1 if refused else 0].terminals += 1

    def _open(self, key: str) -> list[Submission]:
        live = [submission for submission in self.submissions[key] if not submission.terminals]
        assert live, f"{key} has ended already"
        return live


@dataclass
class SimulatedWorker:
    """Its requests, and what it has sent that has not arrived yet."""

    name: str
    running: dict[str, list[int]] = field(default_factory=dict)  # id -> [attempt, next seq]
    owners: dict[str, bytes] = field(default_factory=dict)
    sent: deque[WorkerMessage] = field(default_factory=deque)
    arrived: list[WorkerMessage] = field(default_factory=list)

    def hear(self, message: object) -> None:
        """Obey."""
        if isinstance(message, Start):
            assert message.request_id not in self.running
            self.running[message.request_id] = [message.attempt, message.next_seq]
            self.owners[message.request_id] = message.peer
            assert len(self.running) <= CREDITS
        elif isinstance(message, Stop) and self.running.get(message.request_id, [0])[0] == message.attempt:
            del self.running[message.request_id]

    def step(self) -> None:
        """A chunk for each request."""
        for key, state in list(self.running.items()):
            attempt, seq = state
            status = DONE if seq + 1 == CHUNKS else ACTIVE
            self.sent.append(Delivery(self.owners[key], (ChunkHead(key, attempt, seq, seq, 1, status, (attempt,)),)))
            state[1] += 1
            if status is DONE:
                del self.running[key]


class World:
    """Everybody around one dispatcher."""

    def __init__(self) -> None:
        self.desk = Desk(Limits(max_waiting=3, max_requests=7, lease_s=3, silence_s=10))
        self.serial = 0
        self.gone: set[bytes] = set()
        self.clients = [self.new_client() for _ in range(2)]
        self.workers: list[SimulatedWorker] = []
        self.everyone = list(self.clients)
        self.workers = [self.new_worker() for _ in range(2)]
        self.late: list[tuple[bytes, WorkerMessage]] = []

    def new_client(self) -> SimulatedClient:
        self.serial += 1
        return SimulatedClient(b"c%d" % self.serial)

    def new_worker(self) -> SimulatedWorker:
        self.serial += 1
        worker = SimulatedWorker(f"w{self.serial}")
        self.workers.append(worker)
        self.carry_out(self.desk.worker(worker.name, CREDITS))
        self.workers.remove(worker)
        return worker

    def carry_out(self, actions: list[Action]) -> None:
        """Deliver what the dispatcher sends. Nothing may go to who is known to be gone."""
        for action in actions:
            assert not isinstance(action, Kill)
            assert isinstance(action, Send)
            assert action.peer not in self.gone
            for client in self.everyone:
                if client.peer == action.peer:
                    client.hear(action.message)
            for worker in self.workers:
                if worker.name.encode() == action.peer:
                    worker.hear(action.message)

    # -- what may happen; `a` and `b` are any numbers --------------------------------------------------------------

    def submit(self, a: int, b: int) -> None:
        client, key = self.clients[a % 2], IDS[b % len(IDS)]
        client.submissions.setdefault(key, []).append(Submission())
        self.carry_out(self.desk.submit(key, client.peer, deadline_s=1.0 + b % 7, priority=a % 3))

    def cancel(self, a: int, b: int) -> None:
        self.carry_out(self.desk.hear(self.clients[a % 2].peer, Cancel(IDS[b % len(IDS)])))

    def work(self, a: int, b: int) -> None:
        self.workers[a % 2].step()

    def arrive(self, a: int, b: int) -> None:
        worker = self.workers[a % 2]
        for _ in range(1 + b % 4):
            if worker.sent:
                message = worker.sent.popleft()
                worker.arrived.append(message)
                self.carry_out(self.desk.hear(worker.name.encode(), message))

    def repeat(self, a: int, b: int) -> None:
        worker = self.workers[a % 2]
        if worker.arrived:
            self.carry_out(self.desk.hear(worker.name.encode(), worker.arrived[b % len(worker.arrived)]))

    def crash(self, a: int, b: int) -> None:
        worker = self.workers[a % 2]
        self.late += [(worker.name.encode(), message) for message in (*worker.sent, Alive(worker.name))]
        self.gone.add(worker.name.encode())
        self.carry_out(self.desk.tell(WorkerExited(worker.name, "crashed")))
        self.workers[a % 2] = self.new_worker()

    def too_late(self, a: int, b: int) -> None:
        if self.late:
            self.carry_out(self.desk.hear(*self.late.pop(a % len(self.late))))

    def fall_silent(self, a: int, b: int) -> None:
        self.clients[a % 2].pings = b % 2 == 0

    def leave(self, a: int, b: int) -> None:
        peer = self.clients[a % 2].peer
        self.gone.add(peer)
        actions = self.desk.hear(peer, Goodbye()) if b % 2 else self.desk.tell(PeerGone(peer, "is gone"))
        self.carry_out(actions)
        self.clients[a % 2] = self.new_client()
        self.everyone.append(self.clients[a % 2])

    def wait(self, a: int, b: int) -> None:
        self.desk.now += 0.25 * (1 + a % 4)
        for client in self.clients:
            if client.pings:
                self.carry_out(self.desk.tell(Received(b"lease", Ping(client.peer))))
        for worker in self.workers:
            self.carry_out(self.desk.hear(worker.name.encode(), Alive(worker.name)))
        assert self.desk.dispatcher.wake > self.desk.now
        self.carry_out(self.desk.tell(Tick()))

    def finish(self) -> None:
        """Everything that was asked for ends, if only by its deadline."""
        for _ in range(40):
            self.wait(0, 0)
        assert self.desk.is_idle
        for client in self.everyone:
            for submission in (one for many in client.submissions.values() for one in many):
                assert submission.terminals == 1 or client.peer in self.gone
                assert submission.terminals <= 1


HAPPENINGS = [
    "submit",
    "submit",
    "submit",
    "cancel",
    "work",
    "work",
    "arrive",
    "arrive",
    "repeat",
    "crash",
    "too_late",
    "fall_silent",
    "leave",
    "wait",
]
schedules = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 11), st.integers(0, 34)), max_size=80)


@settings(max_examples=250, deadline=None)
@given(schedules)
def test_whatever_happens_each_request_ends_once(schedule: list[tuple[str, int, int]]) -> None:
    world = World()
    for happening, a, b in schedule:
        getattr(world, happening)(a, b)
    world.finish()
