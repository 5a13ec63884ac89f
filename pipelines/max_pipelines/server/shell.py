"""The loop around dispatcher and supervisor: one ROUTER socket, the workers' life pipes, a clock."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import zmq

from max_interfaces import WireError
from max_interfaces.messages import Ready, Retire, Unfit, decode_header, encode_header

from ..address import IPC
from ..config import Config
from ..sockets import open_socket, receive, send_frames
from .dispatcher import Dispatcher
from .events import (
    DrainBegins,
    DrainEnds,
    Event,
    Kill,
    PeerGone,
    Received,
    Send,
    Tick,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from .launcher import Launcher, WorkerHandle
from .supervisor import Abandon, GiveUp, Order, Spawn, Supervisor

LAST_WORDS = 1024  # messages read after a worker's end before the end itself counts


@dataclass(slots=True)
class Stopping:
    """How the server is told to end, by descriptors that become readable.

    `parents`: any of them ends it at once, nobody is left. `signals` (-1 for none): drain first; a second byte ends
    it at once.
    """

    parents: tuple[int, ...] = ()
    signals: int = -1
    drain_until: float = field(default=math.inf, init=False)
    draining: bool = field(default=False, init=False)
    over: bool = field(default=False, init=False)
    hurry: bool = field(default=False, init=False)  # workers are killed, not asked

    def signalled(self, now: float, drain_s: float) -> None:
        """Each byte is a signal."""
        signals = len(os.read(self.signals, 64)) + self.draining
        if signals > 1:
            self.over = self.hurry = True
        self.draining = True
        self.drain_until = min(self.drain_until, now + drain_s)


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
        self._workers: dict[int, WorkerHandle] = {}  # by the descriptor that tells of their end
        self._unreached: deque[PeerGone] = deque()
        self._poller = zmq.Poller()

    def run(self) -> str:
        """Serve until stopped. Returns why it could not go on, "" after an ordinary end."""
        self._socket = open_socket(self._context, zmq.ROUTER)
        try:
            self._bind()
            self._poller.register(self._socket, zmq.POLLIN)
            for descriptor in (*self._stopping.parents, self._stopping.signals):
                if descriptor >= 0:
                    self._poller.register(descriptor, zmq.POLLIN)
            while not (self._stopping.over or self._finished()):
                self._turn()
            self._feed(DrainEnds())
            return self._dispatcher.problem
        finally:
            self._retire_workers()
            self._socket.close()

    def _bind(self) -> None:
        if not self._address.startswith(IPC):
            self._socket.bind(self._address)
            return
        old_mask = os.umask(0o077)  # the socket's file is the owner's alone
        try:
            self._socket.bind(self._address)
        finally:
            os.umask(old_mask)

    def _finished(self) -> bool:
        if self._dispatcher.problem and not self._linger_when_unfit:
            return True
        return self._stopping.draining and not self._dispatcher.requests

    # -- one turn ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for news or until something is due, then see to it."""
        now = time.monotonic()
        due = min(self._dispatcher.wake, self._supervisor.wake, self._stopping.drain_until)
        if now >= due:
            self._see_to_the_due(now)
            return
        timeout = None if due == math.inf else math.ceil((due - now) * 1000)
        for source, _ in self._poller.poll(timeout):
            if source is self._socket:
                self._receive()
            else:
                self._noticed(source)

    def _see_to_the_due(self, now: float) -> None:
        self._obey(self._supervisor.tick(now))
        self._feed(Tick())
        if now >= self._stopping.drain_until:
            self._stopping.over = True

    def _receive(self) -> bool:
        """Take one message, if one is there."""
        frames = receive(self._socket)
        if frames is None:
            return False
        peer, header = bytes(frames[0]), frames[1] if len(frames) > 1 else b""
        try:
            message = decode_header(header)
        except WireError as problem:
            print(f"maxpipe: message from {peer!r} refused: {problem}", file=sys.stderr)
            self._feed(Unreadable(peer, str(problem)))
            return True
        self._feed(Received(peer, message, header, frames[2:]))
        if isinstance(message, Ready):
            self._supervisor.ready(message.worker)
            self._tell_ready()
        elif isinstance(message, Unfit):
            self._obey(self._supervisor.unfit(message.worker, message.message))
        return True

    def _noticed(self, descriptor: int) -> None:
        if descriptor in self._stopping.parents:
            self._stopping.over = self._stopping.hurry = True
        elif descriptor == self._stopping.signals:
            self._stopping.signalled(time.monotonic(), self._limits.drain_s)
            self._feed(DrainBegins())
        else:
            self._reap(descriptor)

    def _tell_ready(self) -> None:
        if self._on_ready is not None and self._dispatcher.catalogue.complete:
            self._on_ready()
            self._on_ready = None

    # -- actions -------------------------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        """Let the dispatcher handle an event, and then whoever turned out to be gone: one after the other, in order."""
        now = time.monotonic()
        next_event: Event | None = event
        while next_event is not None:
            for action in self._dispatcher.handle(next_event, now):
                if isinstance(action, Send):
                    self._send(action)
                else:
                    self._kill(action)
            next_event = self._unreached.popleft() if self._unreached else None

    def _send(self, action: Send) -> None:
        header = encode_header(action.message) if action.header is None else action.header
        try:
            send_frames(self._socket, (action.peer, header, *action.payload))
        except zmq.Again:
            self._unreached.append(PeerGone(action.peer, "reads too slowly: its queue is full"))
        except zmq.ZMQError as problem:
            if problem.errno != zmq.EHOSTUNREACH:
                raise
            self._unreached.append(PeerGone(action.peer, "is gone"))

    def _kill(self, order: Kill) -> None:
        for handle in self._workers.values():
            if handle.name == order.name:
                print(f"maxpipe: {order.name} {order.reason}; it is killed", file=sys.stderr)
                handle.kill()

    def _obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Spawn(name):
                    handle = self._launcher.spawn(name)
                    self._workers[handle.fileno()] = handle
                    self._poller.register(handle.fileno(), zmq.POLLIN)
                case Abandon(name, reason):
                    print(f"maxpipe: {name} is not started again: {reason}", file=sys.stderr)
                case GiveUp(reason):
                    self._feed(WorkersGivenUp(reason))

    def _reap(self, descriptor: int) -> None:
        handle = self._workers.pop(descriptor)
        self._poller.unregister(descriptor)
        reason = handle.reason()
        handle.close()
        for _ in range(LAST_WORDS):
            if not self._receive():
                break
        if not self._dispatcher.problem:  # which the client or our caller shows
            print(f"maxpipe: {handle.name} {reason}", file=sys.stderr)
        self._feed(WorkerExited(handle.name, reason))
        self._obey(self._supervisor.exited(handle.name, reason, time.monotonic()))

    # -- the end -------------------------------------------------------------------------------------------------

    def _retire_workers(self) -> None:
        """Ask the workers to end, and end those that do not."""
        reachable = [worker for worker in self._dispatcher.workers.values() if worker.credits]
        for worker in reachable:
            self._send(Send(worker.peer, Retire()))
        asked = {worker.name for worker in reachable}
        left = dict(self._workers)
        poller = zmq.Poller()
        for descriptor, handle in left.items():
            poller.register(descriptor, zmq.POLLIN)
            if handle.name not in asked:  # still loading: it would not hear us
                handle.kill()
        if self._stopping.signals >= 0:
            poller.register(self._stopping.signals, zmq.POLLIN)
        limit = time.monotonic() + self._limits.retire_s
        while left and not self._stopping.hurry and (remaining := limit - time.monotonic()) > 0:
            for source, _ in poller.poll(math.ceil(remaining * 1000)):
                if source == self._stopping.signals:
                    self._stopping.signalled(limit, 0)
                else:
                    poller.unregister(source)
                    del left[source]
        for handle in left.values():
            handle.kill()
        for handle in self._workers.values():
            handle.close()
