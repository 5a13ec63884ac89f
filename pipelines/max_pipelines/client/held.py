"""Something asynchronous that a program which waits holds: open on a loop of its own, closed with its holder."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol, TypeVar

from .loop_thread import LoopThread, Outputs

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")


class Resource(Protocol):
    """What can be opened, and closed again."""

    async def __aenter__(self) -> object: ...
    async def close(self) -> None: ...


class Held:
    """Opens `resource` at once, and raises what that raises. It is closed by `close`, or once nobody holds this."""

    def __init__(self, resource: Resource, name: str) -> None:
        self._thread = thread = LoopThread(name)
        self._end = weakref.finalize(self, _end, thread, resource)
        self._end.atexit = False  # a program that ends takes its server with it, and can start no thread any more
        try:
            thread.run(resource.__aenter__())
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """See `LoopThread.run`."""
        return self._thread.run(work)

    def iterate(self, outputs: Outputs[ItemT]) -> Iterator[ItemT]:
        """See `LoopThread.iterate`."""
        return self._thread.iterate(outputs)

    def soon(self, work: Callable[..., object], *args: object) -> None:
        """Call something in the loop, and do not wait."""
        self._thread.loop.call_soon_threadsafe(work, *args)

    def close(self) -> None:
        """Close it. Safe to call twice."""
        self._end()


def _end(thread: LoopThread, resource: Resource) -> None:
    """Wherever it is collected: also in the thread that would have to close it."""

    def close() -> None:
        thread.run(resource.close())
        thread.stop()

    if thread.forked:
        return  # it is the other process's
    if thread.is_current:
        threading.Thread(target=close, name="maxpipe-end", daemon=True).start()
    else:
        close()
