"""The outputs of one request, as an async iterator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar, cast

from max_interfaces import GenerationStatus
from max_interfaces.messages import Ended
from max_interfaces.wire import AnyOutput, AnyRequest

from .inbox import Inbox
from .outputs import failure_of, raise_if_broken, terminal_output

OutputT = TypeVar("OutputT", bound=AnyOutput)

Arrivals = Inbox[AnyOutput | Ended]


class Desk(Protocol):
    """Where a stream hands in its request, and gives it back."""

    loop: asyncio.AbstractEventLoop

    def leave(self, key: str, inbox: Arrivals) -> None:
        """Nobody reads `inbox` any more."""
        ...


class OutputStream(Generic[OutputT]):
    """Outputs as they come; the last one's `is_done` is true. Submitted when first iterated, unless it was before.

    Raises RequestFailed if the request fails or misses its deadline. A cancelled request ends with an output whose
    status is `cancelled`. Leaving early (break, aclose, a cancelled task) cancels the request. An iterator and no
    generator: a generator's first step costs a sleeping loop a tenth of a millisecond.
    """

    __slots__ = ("_desk", "_inbox", "_over", "_request", "_submit")

    def __init__(self, desk: Desk, request: AnyRequest, submit: Callable[[], Arrivals]) -> None:
        self._desk = desk
        self._request = request
        self._submit = submit
        self._inbox: Arrivals | None = None
        self._over = False

    def submit(self) -> Self:
        """Send the request now. RequestFailed if its id is live here, or nobody is there."""
        self._inbox = self._submit()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputT:
        if self._over:
            raise StopAsyncIteration
        try:
            inbox = self._inbox
            if inbox is None:
                inbox = self._inbox = self._submit()
            while not inbox.items:
                await inbox.arrival()
                if self._over:  # closed by another task
                    raise StopAsyncIteration
            return cast(OutputT, self._take(inbox.items.popleft()))
        except BaseException:
            self._leave()
            raise

    def _take(self, item: AnyOutput | Ended) -> AnyOutput:
        if isinstance(item, Ended):
            raise_if_broken(item.status, failure_of(item))
            item = terminal_output(self._request, item.status)
        elif item.final_status is GenerationStatus.ACTIVE:
            return item
        raise_if_broken(item.final_status, item.failure)
        self._over = True
        return item

    def _leave(self) -> None:
        self._over = True
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.wake()
            self._desk.leave(self._request.request_id.value, inbox)

    async def aclose(self) -> None:
        """Leave now; cancels the request unless its end has come."""
        self._leave()

    def __del__(self) -> None:
        """A loop that was left with `break` closes nothing. Any thread may run this."""
        if self._inbox is not None and not self._over:
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and the client with it
                self._desk.loop.call_soon_threadsafe(self._desk.leave, self._request.request_id.value, self._inbox)
