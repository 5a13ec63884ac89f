"""The processes of one kind below a server: started, watched, and started again."""

from __future__ import annotations

import time
from collections.abc import Sequence

import zmq

from ..problems import complain
from .launcher import Launcher, WorkerHandle
from .supervisor import Abandon, End, GiveUp, Order, Spawn, Supervisor


class Children:
    """Those that `launcher` starts as `supervisor` says; `poller` tells of their ends.

    What returns a text says why none of them can be had any more; "" means that some may.
    """

    def __init__(self, supervisor: Supervisor, launcher: Launcher, poller: zmq.Poller) -> None:
        self._supervisor = supervisor
        self._launcher = launcher
        self._poller = poller
        self.handles: dict[int, WorkerHandle] = {}  # by the descriptor that tells of their end

    @property
    def wake(self) -> float:
        """When `tick` is due, infinity if never."""
        return self._supervisor.wake

    def tick(self, now: float) -> str:
        """Start those whose time has come, end those that hang as they start."""
        return self._obey(self._supervisor.tick(now))

    def ready(self, name: str) -> None:
        """One of them serves."""
        self._supervisor.ready(name)

    def unfit(self, name: str, reason: str) -> str:
        """One of them cannot serve, and says so."""
        return self._obey(self._supervisor.unfit(name, reason))

    def ended(self, descriptor: int) -> tuple[str, str]:
        """Reap one. Its name, and how it ended."""
        handle = self.handles.pop(descriptor)
        self._poller.unregister(descriptor)
        reason = handle.reason()
        handle.close()
        return handle.name, reason

    def exited(self, name: str, reason: str) -> str:
        """One of them is no more, and was not asked to end."""
        return self._obey(self._supervisor.exited(name, reason, time.monotonic()))

    def kill(self, name: str, reason: str) -> None:
        """End one now, if it is there, and say why."""
        for handle in self.handles.values():
            if handle.name == name:
                handle.kill()
                complain(f"{name} {reason}; it is killed")

    def _obey(self, orders: Sequence[Order]) -> str:
        for order in orders:
            match order:
                case Spawn(name):
                    if why := self._spawn(name):  # nobody is left to be started
                        return why
                case End(name, reason):
                    self.kill(name, reason)
                case Abandon(name, reason):
                    complain(f"{name} is not started again: {reason}")
                case GiveUp(reason):
                    return reason
        return ""

    def _spawn(self, name: str) -> str:
        """Start one. What keeps it from starting, too few descriptors, processes or memory, counts as an end of it."""
        try:
            handle = self._launcher.spawn(name)
        except (OSError, RuntimeError) as problem:  # the latter is how Python says that a thread cannot be had
            reason = f"could not be started: {problem}"
            complain(f"{name} {reason}")
            return self.exited(name, reason)
        self.handles[handle.fileno()] = handle
        self._poller.register(handle.fileno(), zmq.POLLIN)
        return ""
