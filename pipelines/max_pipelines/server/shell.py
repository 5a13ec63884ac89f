"""The loop around dispatcher and supervisor: one ROUTER socket, the workers' life pipes, a clock."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping

import zmq

from max_interfaces.messages import Ready, Retire, Unfit

from ..config import Config
from ..problems import complain
from .children import Children
from .complaints import Complaints
from .dispatcher import Dispatcher
from .door import Door
from .events import (
    DrainBegins,
    DrainEnds,
    Event,
    Kill,
    Overslept,
    PeerGone,
    Send,
    Tick,
    Unreadable,
    WorkerExited,
    WorkersGivenUp,
)
from .launcher import Launcher, WorkerHandle
from .stopping import Stopping
from .supervisor import Supervisor

LAST_WORDS = 1024  # messages read after a worker's end, or before somebody is judged, for they may say otherwise
OVERSLEPT_S = 0.5  # a turn that took so much longer than it should: the process was stopped, or the machine was


class Server:
    """A dispatcher and its workers, until told to stop."""

    def __init__(
        self,
        config: Config,
        door: Door,
        launcher: Launcher,
        stopping: Stopping,
        *,
        faces: Launcher | None = None,
        on_ready: Callable[[], None] = lambda: None,
        linger_when_unfit: bool = False,
    ) -> None:
        self._config = config
        self._limits = config.limits
        self._door = door
        self._stopping = stopping
        self._on_ready: Callable[[], None] | None = on_ready
        self._linger_when_unfit = linger_when_unfit
        workers = config.workers
        self._dispatcher = Dispatcher(config.limits, [config.model.name], workers.count)
        self._unreached: deque[PeerGone] = deque()
        self._complaints = Complaints()
        self._poller = zmq.Poller()
        supervisor = Supervisor(workers.count + workers.standby, start_timeout_s=workers.start_timeout_s)
        self._workers = Children(supervisor, launcher, self._poller)
        self._faces = None if faces is None else Children(Supervisor(1, "http"), faces, self._poller)
        self._problem = ""  # why nobody can be served by HTTP any more
        self._next_turn = math.inf  # when the next turn should begin at the latest

    def run(self) -> str:
        """Serve until stopped. Returns why it could not go on, "" after an ordinary end."""
        try:
            self._door.open()
            self._poller.register(self._door.socket, zmq.POLLIN)
            for descriptor in (*self._stopping.parents, self._stopping.signals):
                if descriptor >= 0:
                    self._poller.register(descriptor, zmq.POLLIN)
            while not (self._stopping.over or self._finished()):
                self._turn()
            self._feed(DrainEnds())
            return self._dispatcher.problem or self._problem
        finally:
            self._retire_children()
            self._door.close()

    def _finished(self) -> bool:
        if self._problem or (self._dispatcher.problem and not self._linger_when_unfit):
            return True
        return self._stopping.draining and not self._dispatcher.requests

    # -- one turn ------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Wait for news or until something is due, then see to it."""
        now = time.monotonic()
        if now > self._next_turn + OVERSLEPT_S:
            self._feed(Overslept(now - self._next_turn))
        due = min(self._dispatcher.wake, self._workers.wake, self._stopping.drain_until)
        if self._faces is not None:
            due = min(due, self._faces.wake)
        self._next_turn = max(now, due)
        if now >= due:
            self._take_last_words()  # who has spoken is not silent
            self._see_to_the_due(time.monotonic())
            return
        timeout = None if due == math.inf else math.ceil((due - now) * 1000)
        for source, _ in self._poller.poll(timeout):
            if source is self._door.socket:
                self._receive()
            else:
                self._noticed(source)

    def _see_to_the_due(self, now: float) -> None:
        self._lose_hope(self._workers.tick(now))
        if self._faces is not None:
            self._problem = self._faces.tick(now)
        self._feed(Tick())
        if now >= self._stopping.drain_until:
            self._stopping.over = True

    def _receive(self) -> bool:
        """Take one message, if one is there."""
        event = self._door.receive()
        if event is None:
            return False
        self._feed(event)
        if isinstance(event, Unreadable):
            self._complaints.say(f"message from {event.peer!r} refused: {event.problem}", time.monotonic())
        elif isinstance(event.message, Ready):
            self._workers.ready(event.message.worker)
            self._tell_ready()
        elif isinstance(event.message, Unfit):
            self._lose_hope(self._workers.unfit(event.message.worker, event.message.message))
        return True

    def _take_last_words(self) -> None:
        for _ in range(LAST_WORDS):
            if not self._receive():
                return

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
                    gone = self._door.send(action)
                    if gone is not None:
                        self._unreached.append(gone)
                elif isinstance(action, Kill):
                    self._workers.kill(action.name, action.reason)
                else:
                    self._door.cut()
            next_event = self._unreached.popleft() if self._unreached else None

    def _lose_hope(self, why: str) -> None:
        """No worker of our own will come any more, if there is a reason."""
        if why:
            self._feed(WorkersGivenUp(why))

    def _reap(self, descriptor: int) -> None:
        if self._faces is not None and descriptor in self._faces.handles:
            name, reason = self._faces.ended(descriptor)
            if not self._stopping.draining:  # a signal to the whole group has reached it as well
                complain(f"{name} {reason}")
                self._problem = self._faces.exited(name, reason)
            return
        name, reason = self._workers.ended(descriptor)
        self._take_last_words()
        if not self._dispatcher.problem:  # which the client or our caller shows
            complain(f"{name} {reason}")
        self._feed(WorkerExited(name, reason))
        self._lose_hope(self._workers.exited(name, reason))

    # -- the end -------------------------------------------------------------------------------------------------

    def _retire_children(self) -> None:
        """Ask workers and faces to end, and end those that do not."""
        reachable = [worker for worker in self._dispatcher.workers.values() if worker.credits]
        for worker in reachable:
            self._door.send(Send(worker.peer, Retire()))
        asked = {worker.name for worker in reachable}
        faces = {} if self._faces is None else self._faces.handles
        for face in faces.values():
            face.ask()
        for handle in self._workers.handles.values():
            if handle.name not in asked:  # still loading: it would not hear us
                handle.kill()
        started = self._workers.handles | faces
        for handle in self._wait_for(started):
            handle.kill()
        for handle in started.values():
            handle.close()

    def _wait_for(self, started: Mapping[int, WorkerHandle]) -> list[WorkerHandle]:
        """Those that have not ended within the time that they are given, or when there is a hurry."""
        left = dict(started)
        poller = zmq.Poller()
        for descriptor in left:
            poller.register(descriptor, zmq.POLLIN)
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
        return list(left.values())
