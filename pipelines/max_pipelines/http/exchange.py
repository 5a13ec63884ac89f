"""One request over HTTP as it is seen from outside: its id, and what came of it."""

from __future__ import annotations

import re
import time
import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.types import Scope

HEADER = b"x-request-id"
HARMLESS = re.compile(rb"[A-Za-z0-9._:=+/@-]{1,128}")  # nothing that a log, a shell or a header would take for more
LONGEST_PATH = 256  # of which a log tells

_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


@dataclass(slots=True, eq=False)
class Exchange:
    """What is known of a request so far. Times in seconds; `status` is 0 until the answer begins.

    `error_type` says what went wrong, also after an answer had begun. `client_left` is noticed only while something
    waits for it, as every answer in pieces does.
    """

    request_id: str
    method: str
    path: str
    is_websocket: bool = False
    began_at: float = field(default_factory=time.time)
    status: int = 0
    bytes_sent: int = 0
    first_byte_s: float | None = None
    took_s: float = 0.0
    client_left: bool = False
    error_type: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    trace_id: str = ""
    _began: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, scope: Scope) -> Exchange:
        """A request has come. From now on it is what the code that serves it finds as the current one.

        Each request has a task of its own, so nothing need be put back at its end, and what is logged after it, such
        as by uvicorn, still belongs to it.
        """
        path = scope["path"][:LONGEST_PATH]
        exchange = cls(_id_of(scope), scope.get("method", "GET"), path, scope["type"] == "websocket")
        _current.set(exchange)
        return exchange

    @property
    def failed(self) -> bool:
        """Whether it is our fault, or the model's, that there was no whole answer."""
        return self.status >= 500 or bool(self.error_type and self.status < 400 and not self.client_left)

    def sent(self, data: int) -> None:
        """So many bytes of the answer's body leave."""
        if data and self.first_byte_s is None:
            self.first_byte_s = time.monotonic() - self._began
        self.bytes_sent += data

    def end(self) -> None:
        """Nothing more comes of it."""
        self.took_s = time.monotonic() - self._began


def current() -> Exchange | None:
    """The request that is being served here, if one is."""
    return _current.get()


def note_error(kind: str) -> None:
    """The request that is being served here gets an error, of a type as in `error_type`."""
    exchange = _current.get()
    if exchange is not None:
        exchange.error_type = kind


def note_tokens(read: int, made: int) -> None:
    """The request that is being served here has cost so many tokens more."""
    exchange = _current.get()
    if exchange is not None:
        exchange.input_tokens = (exchange.input_tokens or 0) + read
        exchange.output_tokens = (exchange.output_tokens or 0) + made


def _id_of(scope: Scope) -> str:
    """The client's own, if it is one that may be repeated anywhere; else a new one."""
    for name, value in scope["headers"]:
        if name == HEADER and HARMLESS.fullmatch(value):
            return bytes(value).decode("ascii")
    return uuid.uuid4().hex
