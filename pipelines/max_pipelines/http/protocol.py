"""uvicorn's HTTP, with bounds for a request's head, and with our own words for what is no HTTP."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .json import encode
from .problems import OVERLOADED, VALIDATION, HttpProblem

HEAD_S = 10.0  # a client on the slowest line has sent it by then; who trickles it holds a connection and nothing more
MAX_HEAD = 2**16  # bytes; as other servers have it. uvicorn keeps whatever comes


class TimedProtocol(HttpToolsProtocol):
    """A connection whose request line and headers do not come in time is answered 408, and closed; 431 if there is no
    end of them, 400 if what comes is no HTTP.
    """

    head_s = HEAD_S
    most: int | None = None  # connections at once
    _begins = False  # whether the head's first piece is still being read
    _received = 0  # bytes of the head after that piece, which may have the last body's end in it
    url = b""  # before there is any
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        self.most, self.limit_concurrency = self.limit_concurrency, None  # uvicorn's own answer is plain text
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come: at most 256 KiB, so that a head is held to its bound and so much more."""
        super().data_received(data)
        if self._patience is None:
            return
        self._received = 0 if self._begins else self._received + len(data)
        self._begins = False
        if self._received > MAX_HEAD:
            self._refuse(HttpProblem(431, VALIDATION, f"the request's head has more than {MAX_HEAD} bytes"))

    def send_400_response(self, msg: str) -> None:
        """What has come cannot be read; uvicorn's own answer is plain text."""
        self._refuse(HttpProblem(400, VALIDATION, "this is no HTTP/1.1 request that can be read"))

    def on_message_begin(self) -> None:
        """The first byte of another request."""
        super().on_message_begin()
        self._begins = True
        self._wait()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._wait_no_more()
        served = self.app
        if self.most is not None and max(len(self.connections), len(self.tasks) + 1) > self.most:
            self.logger.warning("More than %d connections at once; one is refused.", self.most)
            self.app = _full
        try:
            super().on_headers_complete()
        finally:
            self.app = served

    def _wait(self) -> None:
        self._wait_no_more()
        self._patience = self.loop.call_later(self.head_s, self._give_up)

    def _wait_no_more(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        self._refuse(HttpProblem(408, "timeout", f"the request's head did not come within {self.head_s:g} s"))

    def _refuse(self, problem: HttpProblem) -> None:
        """Answer, in OpenAI's way if as much of the path has come, and close. Amid another answer there is no place."""
        self._wait_no_more()
        amid = self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete
        body = encode(problem.fields(self.url.partition(b"?")[0].decode("latin-1")))
        line = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        head = f"{line}content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        transport: Any = self.transport
        if not transport.is_closing():
            if not amid:
                transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
            transport.close()


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    """The answer where as many are served as may be."""
    problem = HttpProblem(503, OVERLOADED, "too many connections at once", {"retry-after": "1", "connection": "close"})
    await problem.response(scope["path"])(scope, receive, send)
