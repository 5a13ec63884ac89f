"""The loop around dispatcher and supervisor: one ROUTER socket, the workers' life pipes, a clock."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from max_interfaces import WireError
from max_interfaces.messages import (
    Alive,
    Cancel,
    Delivery,
    Describe,
    Ended,
    Goodbye,
    Ping,
    Ready,
    Retire,
    Submit,
    Unfit,
    decode_header,
    encode_header,
)
from max_interfaces.wire import Frame

from ..config import Config
from ..sockets import open_socket, receive
from .dispatcher import Dispatcher
from .events import Action, DrainBegins, Event, Kill, PeerGone, Received, Send, Tick, WorkerExited, WorkersGivenUp
from .launcher import Launcher, WorkerHandle
from .supervisor import GiveUp, Order, Spawn, Supervisor

MESSAGES_A_WAKE = 256  # then the clock is looked at again
FROM_OUTSIDE = (Alive, Cancel, Delivery, Describe, Ended, Goodbye, Ping, Ready, Submit, Unfit)


@dataclass(slots=True)
class Stopping:
    """How the server is told to end. Each is a descriptor that becomes readable, -1 for none.

    `parent`: end at once, nobody is left. `signals`: drain first; a second byte ends at once.
    """

    parent: int = -1
    signals: int = -1
    begun: float | None = field(default=None, init=False)
    now: bool = field(default=False, init=False)
    hurry: bool = field(default=False, init=False)


class Server:
    """A dispatcher and its workers, until told to stop."""

    def __init__(
        self,
        config: Config,
        address: str,
        launcher: Launcher,
        stopping: Stopping,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        on_ready: Callable[[], None] = lambda: None,
        linger_when_unfit: bool = False,
    ) -> None:
        self._config = config
        self._limits = config.limits
        self._address = address
        self._launcher = launcher
        self._stopping = stopping
        self._context = context
        self._on_ready: Callable[[], None] | None = on_ready
        self._linger_when_unfit = linger_when_unfit
        self._dispatcher = Dispatcher(config.limits, [config.model.name])
        self._supervisor = Supervisor(config.workers.count)
        self._workers: dict[str, WorkerHandle] = {}
        self._poller = zmq.Poller()

    def run(self) -> str:
        """Serve until stopped. Returns why it could not go on, "" after an ordinary end."""
        self._socket = open_socket(self._context, zmq.ROUTER)
        old_mask = os.umask(0o077)  # the socket's file is the owner's alone
        try:
            self._socket.bind(self._address)
        finally:
            os.umask(old_mask)
        try:
            self._poller.register(self._socket, zmq.POLLIN)
            for descriptor in (self._stopping.parent, self._stopping.signals):
                if descriptor >= 0:
                    self._poller.register(descriptor, zmq.POLLIN)
            while not self._finished(time.monotonic()):
                self._obey(self._supervisor.tick(time.monotonic()))
                self._wait()
                self._feed(Tick())
            return self._dispatcher.problem
        finally:
            self._retire_workers()
            self._socket.close()

    # -- one round -----------------------------------------------------------------------------------------------

    def _finished(self, now: float) -> bool:
        if self._stopping.now:
            return True
        if self._dispatcher.problem and not self._linger_when_unfit:
            return True
        if self._stopping.begun is None:
            return False
        if not self._dispatcher.requests:
            return True
        if now >= self._stopping.begun + self._limits.drain_s:
            self._act(self._dispatcher.cancel_all())
        return False

    def _wait(self) -> None:
        now = time.monotonic()
        times = [self._dispatcher.next_wake(), self._supervisor.next_wake()]
        if self._stopping.begun is not None:
            times.append(self._stopping.begun + self._limits.drain_s)
        wake = min((moment for moment in times if moment is not None), default=None)
        timeout = None if wake is None else math.ceil(max(0.0, wake - now) * 1000)
        for source, _ in self._poller.poll(timeout):
            if source is self._socket:
                self._receive()
            elif source == self._stopping.parent:
                self._stopping.now = True
            elif source == self._stopping.signals:
                self._signalled()
            else:
                self._reap(source)

    def _receive(self) -> None:
        for _ in range(MESSAGES_A_WAKE):
            frames = receive(self._socket)
            if frames is None:
                return
            if len(frames) < 2:
                continue
            self._take(bytes(frames[0]), frames[1], frames[2:])

    def _take(self, peer: bytes, header: Frame, payload: Sequence[Frame]) -> None:
        try:
            message = decode_header(header)
        except WireError as problem:
            print(f"maxpipe: message from {peer.hex()} dropped: {problem}", file=sys.stderr)  # noqa: T201
            return
        if not isinstance(message, FROM_OUTSIDE):
            return
        self._feed(Received(peer, message, header, payload))
        if isinstance(message, Ready):
            self._supervisor.ready(message.worker)
            if self._on_ready is not None and self._dispatcher.catalogue.complete:
                self._on_ready()
                self._on_ready = None
        elif isinstance(message, Unfit):
            self._obey(self._supervisor.unfit(message.message))

    def _feed(self, event: Event) -> None:
        self._act(self._dispatcher.handle(event, time.monotonic()))

    # -- actions -------------------------------------------------------------------------------------------------

    def _act(self, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self._send(action)
                case Kill(name, _):
                    if name in self._workers:
                        self._workers[name].kill()

    def _send(self, action: Send) -> None:
        header = action.header if action.header is not None else encode_header(action.message)
        try:
            self._socket.send_multipart([action.peer, header, *action.payload], flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._feed(PeerGone(action.peer, "reads too slowly: its queue is full"))
        except zmq.ZMQError as problem:
            if problem.errno != zmq.EHOSTUNREACH:
                raise
            self._feed(PeerGone(action.peer, "is gone"))

    def _obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Spawn(name):
                    handle = self._workers[name] = self._launcher.spawn(name)
                    self._poller.register(handle.fileno(), zmq.POLLIN)
                case GiveUp(reason):
                    self._feed(WorkersGivenUp(reason))

    def _reap(self, descriptor: int) -> None:
        name = next(name for name, handle in self._workers.items() if handle.fileno() == descriptor)
        handle = self._workers.pop(name)
        self._poller.unregister(descriptor)
        reason = handle.reason()
        handle.close()
        self._receive()  # what it said before it ended comes first
        self._feed(WorkerExited(name, reason))
        self._obey(self._supervisor.exited(name, reason, time.monotonic()))

    # -- the end -------------------------------------------------------------------------------------------------

    def _signalled(self) -> None:
        os.read(self._stopping.signals, 64)
        if self._stopping.begun is not None:
            self._stopping.now = self._stopping.hurry = True
        self._stopping.begun = time.monotonic()
        self._feed(DrainBegins())

    def _retire_workers(self) -> None:
        """Ask the workers to end, and end those that do not."""
        reachable = [worker for worker in self._dispatcher.workers.values() if worker.credits]
        for worker in reachable:
            self._send(Send(worker.peer, Retire()))
        patient = {worker.name for worker in reachable} if not self._stopping.hurry else set()
        for name, handle in self._workers.items():
            if name not in patient:  # still loading: it would not hear us
                handle.kill()
        limit = time.monotonic() + self._limits.retire_s
        poller = zmq.Poller()
        left = {handle.fileno(): handle for handle in self._workers.values()}
        for descriptor in left:
            poller.register(descriptor, zmq.POLLIN)
        while left and (remaining := limit - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(math.ceil(remaining * 1000)):
                poller.unregister(descriptor)
                left.pop(descriptor)
        for handle in left.values():
            handle.kill()
        for handle in self._workers.values():
            handle.close()
