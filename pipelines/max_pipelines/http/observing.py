"""Every request is watched from outside: it gets an id, is counted, and is told of in the log and the traces."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .exchange import HEADER, Exchange
from .metrics import Metrics
from .traces import Tracing

SWITCHING = 101
REFUSED = 403  # what a WebSocket that is closed before it is accepted is answered
WATCHED = ("/health", "/ready", "/metrics", "/status")  # asked every few seconds, by who watches the server
LEAVES_WELL = (1000, 1001, 1005)  # WebSocket: done, a page is closed, no reason given

requests = logging.getLogger("max_pipelines.http.requests")  # its records have an `exchange`


class Observing:
    """ASGI middleware, around all the others and around what answers an unforeseen error."""

    def __init__(self, app: ASGIApp, metrics: Metrics, tracing: Tracing | None = None) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing
        self._last = dict.fromkeys(WATCHED, 200)  # the status that was told of last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        exchange = Exchange.begin(scope)
        span = None if self._tracing is None else self._tracing.begin(exchange, scope)
        watched = Watched(exchange, receive, send)
        try:
            await self._app(scope, watched.receive, watched.send)
        except Exception:
            exchange.error_type = exchange.error_type or "internal"
            raise
        finally:
            exchange.end()
            self._tell(exchange)
            if self._tracing is not None and span is not None:
                self._tracing.end(span, exchange, scope)

    def _tell(self, exchange: Exchange) -> None:
        if exchange.status and not exchange.is_websocket:
            self._metrics.answers.labels(str(exchange.status)).inc()
        if exchange.path in self._last:  # what a probe hears is news only when it changes
            if self._last[exchange.path] == exchange.status:
                return
            self._last[exchange.path] = exchange.status
        level = logging.ERROR if exchange.failed else logging.INFO
        if requests.isEnabledFor(level):
            told = {"exchange": exchange}
            requests.log(level, "%s %s %d", exchange.method, exchange.path, exchange.status, extra=told)


class Watched:
    """The two ends of an ASGI connection, with note taken of what passes."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._receive = receive
        self._send = send
        self._over = False  # the answer is whole
        self._header = (HEADER, exchange.request_id.encode())

    async def receive(self) -> Message:
        """What the client says, or that it has gone."""
        message = await self._receive()
        kind = message["type"]
        if not self._over and (
            kind == "http.disconnect"
            or (kind == "websocket.disconnect" and message.get("code", 1005) not in LEAVES_WELL)
        ):
            self._exchange.client_left = True
        return message

    async def send(self, message: Message) -> None:
        """What the client is told. The id goes with the answer's head."""
        exchange = self._exchange
        kind = message["type"]
        over = False
        if kind == "http.response.body":
            exchange.sent(len(message.get("body", b"")))
            over = not message.get("more_body", False)
        elif kind == "http.response.start":
            exchange.status = message["status"]
            message["headers"] = [*message.get("headers", ()), self._header]
        elif kind == "websocket.send":
            exchange.sent(len(message.get("bytes") or (message.get("text") or "").encode()))
        elif kind == "websocket.accept":
            exchange.status = SWITCHING
            message["headers"] = [*message.get("headers", ()), self._header]
        elif kind == "websocket.close":
            exchange.status = exchange.status or REFUSED
            over = True
        await self._send(message)
        self._over = self._over or over
