"""uvicorn's HTTP, with an end to waiting for a request's head."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .json import encode
from .problems import HttpProblem

HEAD_S = 10.0  # a client on the slowest line has sent it by then; who trickles it holds a connection and nothing more


class TimedProtocol(HttpToolsProtocol):
    """A connection whose request line and headers do not come in time is answered 408, and closed."""

    head_s = HEAD_S
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of another request."""
        super().on_message_begin()
        self._wait()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._wait_no_more()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(self.head_s, self._give_up)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        problem = HttpProblem(408, "timeout", f"the request's head did not come within {self.head_s:g} s")
        body = encode(problem.fields("/"))
        head = f"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        transport: Any = self.transport
        if not transport.is_closing():
            transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
            transport.close()
