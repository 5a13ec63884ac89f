"""An event loop in a thread of its own, for callers without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from max_interfaces import NotServing

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class Outputs(Protocol[ItemT_co]):
    """An asynchronous iterator that can be left early."""

    def __aiter__(self) -> AsyncIterator[ItemT_co]: ...
    def __anext__(self) -> Awaitable[ItemT_co]: ...
    async def aclose(self) -> object:
        """Leave it."""
        ...


class LoopThread:
    """Runs coroutines for any thread, side by side."""

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._ended = False
        # From the last look at `_ended` until the work is in the loop's queue. Its holder may be interrupted by a
        # collection, which may leave an iterator, which begins something.
        self._beginning = threading.RLock()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller is this thread itself, which must not wait for it."""
        return threading.current_thread() is self._thread

    @property
    def forked(self) -> bool:
        """Whether the caller is in a copy of the process that has this thread: nobody would run anything."""
        return os.getpid() != self._pid

    def begin(self, work: Coroutine[Any, Any, ResultT]) -> Future[ResultT]:
        """Start it, and do not wait. NotServing once the loop has ended, and in a process that was forked."""
        if self.forked:
            work.close()
            raise NotServing("what this belongs to was opened before this process was forked; open one in it")
        with self._beginning:
            if not self._ended:
                return asyncio.run_coroutine_threadsafe(work, self.loop)
        work.close()
        raise NotServing("what this belongs to has been closed")

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Wait for its result. If the caller is interrupted meanwhile, by Ctrl-C for one, it is cancelled."""
        future = self.begin(work)
        try:
            return future.result()
        finally:
            future.cancel()

    def iterate(self, outputs: Outputs[ItemT]) -> Iterator[ItemT]:
        """What an asynchronous iterator gives, as it comes. Left early, it is closed."""

        async def advance() -> ItemT | None:
            return await anext(outputs, None)

        async def leave() -> None:
            await outputs.aclose()

        step: Future[ItemT | None] | None = None
        try:
            while (output := (step := self.begin(advance())).result()) is not None:
                yield output
        finally:
            if step is not None:
                step.cancel()  # Ctrl-C while it waited
            # Not waited for: an iterator dropped half-way may be collected in the loop's own thread.
            with contextlib.suppress(NotServing):
                self.begin(leave())

    def stop(self) -> None:
        """Cancel the last tasks, let them end, then end the loop and its thread."""
        with self._beginning:  # so that all that was begun is there to be cancelled
            last = self.begin(_wind_up())
            self._ended = True
        last.result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _wind_up() -> None:
    """What `asyncio.run` does at its end."""
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()
