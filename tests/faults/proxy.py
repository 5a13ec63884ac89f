"""A bad network, between peers and a real server: messages are lost, repeated, or late; or nothing gets through."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import zmq

LATEST_TURN_S = 0.02  # by then it looks whether it is to end
Frames = list[bytes]


@dataclass(frozen=True)
class Losses:
    """Which share of the messages has which fate. What is late comes within `late_s`, and others overtake it."""

    drop: float = 0.0
    repeat: float = 0.0
    delay: float = 0.0
    late_s: float = 0.5


class BadNetwork:
    """Peers connect to `front`; each gets a connection of its own, under its own name, to the server at `back`.

    Runs in a thread for as long as its `with` block does. `fates` counts what became of the messages.
    """

    def __init__(self, front: str, back: str, losses: Losses, seed: int = 0) -> None:
        self.front = front
        self.losses = losses
        self.fates: Counter[str] = Counter()
        self._back = back
        self._chance = random.Random(seed)
        self._cut_until = 0.0
        self._over = threading.Event()
        self._bound = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bad-network", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._bound.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def cut(self, seconds: float) -> None:
        """From now on, and for so long, nothing gets through in either direction."""
        self._cut_until = time.monotonic() + seconds

    # -- in its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with ExitStack() as sockets:
            self._serve(sockets, sockets.enter_context(zmq.Context[zmq.Socket[bytes]]()))

    def _serve(self, sockets: ExitStack, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        front = sockets.enter_context(_unbounded(context.socket(zmq.ROUTER)))
        front.bind(self.front)
        self._bound.set()
        poller = zmq.Poller()
        poller.register(front, zmq.POLLIN)
        ways: dict[bytes, zmq.Socket[bytes]] = {}  # to the server, by whose they are
        names: dict[zmq.Socket[bytes], bytes] = {}
        late: list[tuple[float, int, zmq.Socket[bytes], Frames]] = []
        order = itertools.count()
        while not self._over.is_set():
            now = time.monotonic()
            while late and late[0][0] <= now:
                _, _, target, frames = heapq.heappop(late)
                target.send_multipart(frames)
            wait_s = min(LATEST_TURN_S, late[0][0] - now) if late else LATEST_TURN_S
            for source, _ in poller.poll(round(1000 * wait_s)):
                frames = source.recv_multipart()
                if source is front:
                    name = frames.pop(0)
                    if name not in ways:
                        way = ways[name] = sockets.enter_context(self._way(context, name))
                        names[way] = name
                        poller.register(way, zmq.POLLIN)
                    target = ways[name]
                else:
                    target, frames = front, [names[source], *frames]
                for due in self._fate():
                    heapq.heappush(late, (due, next(order), target, frames))

    def _way(self, context: zmq.Context[zmq.Socket[bytes]], name: bytes) -> zmq.Socket[bytes]:
        way = _unbounded(context.socket(zmq.DEALER))
        if name[0]:  # else ZeroMQ made it up, for one that has no name
            way.setsockopt(zmq.ROUTING_ID, name)
        way.connect(self._back)
        return way

    def _fate(self) -> list[float]:
        """When a message is to arrive: never, once or twice."""
        now, losses, draw = time.monotonic(), self.losses, self._chance.random()
        later = now + self._chance.random() * losses.late_s
        if now < self._cut_until:
            self.fates["cut off"] += 1
            return []
        for fate, share, arrivals in (
            ("dropped", losses.drop, []),
            ("repeated", losses.repeat, [now, later]),
            ("delayed", losses.delay, [later]),
        ):
            if draw < share:
                self.fates[fate] += 1
                return arrivals
            draw -= share
        self.fates["passed"] += 1
        return [now]


def _unbounded(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket
