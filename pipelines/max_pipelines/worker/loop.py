"""The worker's loop: wait for messages or work, take them, step, send. One thread does it all.

Heartbeats leave from this loop and carry its progress, so that a worker that spins or hangs is found out.
"""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable, Sequence

import zmq

from max_interfaces import WireError
from max_interfaces.messages import Alive, Ready, Unfit, decode_header

from ..config import Config
from ..registry import AnyServed, build_pipeline
from ..sockets import open_socket, receive, send
from .core import Outgoing, WorkerCore

HEARTBEAT_S = 1.0
UNFIT = 3  # the exit code of a worker that cannot serve


def run_worker(
    config: Config,
    address: str,
    name: str,
    context: zmq.Context[zmq.Socket[bytes]],
    stopped: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
) -> int:
    """Load the pipeline, serve until retired. Returns the exit code: 0, or 3 if it cannot serve.

    `stopped` is how a thread is told to end, which nobody can kill.
    """
    socket = open_socket(context, zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, name.encode())
    socket.connect(address)
    served: AnyServed | None = None
    try:
        send(socket, Alive(name, busy_s=config.workers.start_timeout_s))
        try:
            served = build_pipeline(config)
        except Exception as problem:  # a third party's pipeline may fail in any way
            send(socket, Unfit(name, _explain(problem)))
            return UNFIT
        core = WorkerCore(served, config.model.name)
        on_ready()
        send(socket, Ready(name, (core.info,), served.max_requests))
        loop = WorkerLoop(socket, core, name)
        while not core.retired and not stopped():
            loop.turn()
        if core.refusal:
            print(f"maxpipe: {name} is not wanted: {core.refusal}", file=sys.stderr)
            return UNFIT
    except WireError as problem:
        # Nobody can say which request the message was about. So all of them end, with this reason, and loudly: a
        # server that this worker cannot read is of another version, and neither waiting nor guessing mends that.
        send(socket, Unfit(name, f"cannot read its server: {problem}"[:4096]))
        return UNFIT
    finally:
        socket.close()
        if served is not None:
            served.close()
    return 0


def _explain(problem: Exception) -> str:
    """One line. Errors of these kinds say themselves what is wrong; any other shows its origin in the log."""
    text = " ".join(str(problem).split())
    if not isinstance(problem, ValueError | OSError | ImportError):
        traceback.print_exception(problem, file=sys.stderr)
        text = f"{type(problem).__name__}: {text}"
    return text[:4096]


class WorkerLoop:
    """One socket, one core."""

    def __init__(self, socket: zmq.Socket[bytes], core: WorkerCore, name: str) -> None:
        self._socket = socket
        self._core = core
        self._name = name
        self._beat_at = time.monotonic() + HEARTBEAT_S
        self._poller = zmq.Poller()
        self._poller.register(socket, zmq.POLLIN)

    def turn(self) -> None:
        """Receive, step, deliver: the life of a worker is this, again and again."""
        self._receive()
        self._deliver(self._core.step())
        self._beat()

    def _receive(self) -> None:
        """Take what is there. With nothing else to do, wait for one message: a step is not to wait for a second."""
        if not self._core.in_flight:
            patience = math.ceil(max(0.0, self._beat_at - time.monotonic()) * 1000)
            if self._poller.poll(patience):
                self._take()
            return
        while self._poller.poll(0):
            self._take()
            self._beat()  # taking many long texts is progress, too

    def _take(self) -> None:
        frames = receive(self._socket)
        if frames:
            self._deliver(self._core.take(decode_header(frames[0]), frames[1:]))

    def _deliver(self, outgoing: Sequence[Outgoing]) -> None:
        for message, payload in outgoing:
            send(self._socket, message, payload)

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            send(self._socket, Alive(self._name, self._core.steps, self._core.in_flight))
