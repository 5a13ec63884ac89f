"""Work that is done a slice at a time, so that others have their turn between two of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, Protocol, TypeVar

ResultT = TypeVar("ResultT")


class GivenUp(BaseException):
    """Unwinds work that nobody waits for any more."""


class Pause(Protocol):
    """What work is given, to let others have their turn."""

    @property
    def due(self) -> bool:
        """True if it should rest as soon as it can."""
        ...

    def rest(self) -> None:
        """Return when it is its turn again. GivenUp if nobody waits for it any more."""
        ...


class NoPause:
    """For work that is done in one piece."""

    due = False

    def rest(self) -> None:
        """See `Pause`."""


class Slices(Generic[ResultT]):
    """`work`, which rests wherever it can once its pause is due.

    It has a thread of its own, for a call can rest nowhere else; but it runs only within `advance`, whose caller
    waits. So never two of the two run at once, and nothing has to be locked.
    """

    def __init__(self, work: Callable[[Pause], ResultT]) -> None:
        self._work = work
        self._done: Future[ResultT] = Future()
        self._thread: threading.Thread | None = None
        self._go, self._rested = threading.Semaphore(0), threading.Semaphore(0)
        self._until = 0.0
        self._given_up = False

    def advance(self, seconds: float) -> bool:
        """Go on until the first pause after so long; True if it is done. Raises what it has raised."""
        if not self._done.done():
            self._until = time.monotonic() + seconds
            self._take_turn()
        if not self._done.done():
            return False
        self._done.result()
        return True

    def close(self) -> None:
        """Nobody waits any more: it ends at its pause. Safe at any time."""
        if self._thread is not None and not self._done.done():
            self._given_up = True
            self._take_turn()
            self._thread.join()

    @property
    def due(self) -> bool:
        """See `Pause`."""
        return time.monotonic() >= self._until

    def rest(self) -> None:
        """See `Pause`."""
        self._rested.release()
        self._go.acquire()
        if self._given_up:
            raise GivenUp

    def _take_turn(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="encoders", daemon=True)
            thread.start()
            self._thread = thread  # only now: nobody has to wait for one that could not start
        else:
            self._go.release()
        self._rested.acquire()

    def _run(self) -> None:
        try:
            self._done.set_result(self._work(self))
        except BaseException as problem:
            self._done.set_exception(problem)
        self._rested.release()
