"""The worker's loop: wait for messages or work, take them, step, send. One thread does it all.

Heartbeats leave from this loop and carry its progress, so that a worker that spins or hangs is found out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import zmq

from max_interfaces.messages import Alive, Ready, Unfit, decode_header

from ..config import Config
from ..registry import build_pipeline
from ..sockets import open_socket, receive, send
from .core import Outgoing, WorkerCore

HEARTBEAT_S = 1.0


def run_worker(
    config: Config,
    address: str,
    name: str,
    context: zmq.Context[zmq.Socket[bytes]],
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """Load the pipeline, serve until retired. Returns the exit code: 0, or 3 if the pipeline cannot be built.

    `stopped` is how a thread is told to end, which nobody can kill.
    """
    socket = open_socket(context, zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, name.encode())
    socket.connect(address)
    try:
        send(socket, Alive(name, busy_s=config.workers.start_timeout_s))
        try:
            served = build_pipeline(config)
        except (ValueError, OSError, ImportError) as problem:  # a config that cannot work; anything else is a crash
            send(socket, Unfit(name, " ".join(str(problem).split())[:4096]))
            return 3
        core = WorkerCore(served, config.model.name)
        send(socket, Ready(name, (core.info,), served.max_requests))
        loop = WorkerLoop(socket, core, name)
        while not core.retired and not stopped():
            loop.turn()
        return 0
    finally:
        socket.close()


class WorkerLoop:
    """One socket, one core."""

    def __init__(self, socket: zmq.Socket[bytes], core: WorkerCore, name: str) -> None:
        self._socket = socket
        self._core = core
        self._name = name
        self._heard = time.monotonic()

    def turn(self) -> None:
        """Wait, receive, step, deliver: the life of a worker is this, again and again."""
        self._wait()
        self._take()
        self._deliver(self._core.step())
        self._beat()

    def _wait(self) -> None:
        if not self._core.in_flight:
            due = self._heard + HEARTBEAT_S - time.monotonic()
            self._socket.poll(math.ceil(max(0.0, due) * 1000))

    def _take(self) -> None:
        while frames := receive(self._socket):
            self._deliver(self._core.take(decode_header(frames[0]), frames[1:]))

    def _deliver(self, outgoing: list[Outgoing]) -> None:
        for message, payload in outgoing:
            send(self._socket, message, payload, copy=False)

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._heard + HEARTBEAT_S:
            self._heard = now
            send(self._socket, Alive(self._name, self._core.steps, self._core.in_flight))
