"""The outputs of one request, as an async iterator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from max_interfaces import GenerationStatus
from max_interfaces.messages import Ended
from max_interfaces.wire import AnyOutput, AnyRequest

from .demultiplexer import Demultiplexer
from .inbox import Inbox
from .outputs import failure_of, raise_if_broken, terminal_output

OutputT_co = TypeVar("OutputT_co", bound=AnyOutput, covariant=True)


class OutputStream(Generic[OutputT_co]):
    """Outputs as they come; the last one's `is_done` is true. Submitted when first iterated, unless it was before.

    Raises RequestFailed if the request fails or misses its deadline. A cancelled request ends with an output whose
    status is `cancelled`. Leaving early (break, aclose, a cancelled task) cancels the request. It has one reader. An
    iterator and no generator: a generator's first step costs a sleeping loop a tenth of a millisecond.
    """

    __slots__ = ("_demultiplexer", "_inbox", "_over", "_request", "_send")

    def __init__(self, demultiplexer: Demultiplexer, request: AnyRequest, send: Callable[[bool], Inbox]) -> None:
        self._demultiplexer = demultiplexer
        self._request = request
        self._send = send
        self._inbox: Inbox | None = None
        self._over = False

    def submit(self, *, ahead: bool = False) -> Self:
        """Send the request now. RequestFailed if its id is live here, or nobody is there; RuntimeError if it was.

        What is asked for `ahead` of time is made to its end, whether it is read or not, until it is first read.
        """
        if self._over or self._inbox is not None:
            raise RuntimeError("the request of this stream has been submitted already, or the stream closed")
        self._inbox = self._send(ahead)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputT_co:
        inbox = self._inbox
        if inbox is not None and inbox.awaited:
            raise RuntimeError("the stream is being read already: it has one reader")
        if self._over:
            raise StopAsyncIteration
        try:
            if inbox is None:
                inbox = self._inbox = self._send(False)
            inbox.ahead = False
            while not inbox.items:
                await inbox.arrival()
                if self._over:  # closed by another task
                    raise StopAsyncIteration
            item = inbox.take()
            if inbox.watched >= 0:
                self._demultiplexer.read(self._request.request_id.value, inbox)
            return self._take(item)  # type: ignore[return-value]  # of the kind that its request has
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
            self._demultiplexer.leave(self._request.request_id.value, inbox)
            inbox.wake()

    async def aclose(self) -> None:
        """Leave now; cancels the request unless its end has come."""
        self._leave()

    def __del__(self) -> None:
        """A loop that was left with `break` closes nothing. Any thread may run this."""
        if self._inbox is not None and not self._over:
            leave, key = self._demultiplexer.leave, self._request.request_id.value
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and the client with it
                self._demultiplexer.loop.call_soon_threadsafe(leave, key, self._inbox)
