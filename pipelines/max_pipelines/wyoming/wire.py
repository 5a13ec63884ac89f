"""Events over a connection: a line of JSON, then as many bytes of data and of payload as it says.

    {"type": "audio-chunk", "data_length": 42, "payload_length": 4800}\\n{"rate": 24000, …}…

The data may stand in the line itself, too. What a stranger says of lengths is looked at before anything is read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from ..config import WyomingConfig
from ..http.json import encode
from ..http.problems import VALIDATION, HttpProblem

LINGER_S = 1.0  # for a client to read the last that it is told
DISCARDED = 2**16  # bytes at a time of what nobody hears any more

Data: TypeAlias = dict[str, msgspec.Raw]
Length = Annotated[int, Meta(ge=0)]
_line_end = b"\n"


class Header(msgspec.Struct, frozen=True):
    """The line."""

    type: Annotated[str, Meta(max_length=256)]
    data: Data | None = None
    data_length: Length | None = None
    payload_length: Length | None = None


class Event(msgspec.Struct, frozen=True):
    """What was said. Payloads are read and dropped: no client has sound for us."""

    type: str
    data: Data


_header = msgspec.json.Decoder(Header)
_data = msgspec.json.Decoder(Data)


class Wire:
    """One connection. The reader's own limit is that of a header; ConnectionError when the client is lost."""

    idle_s = 600.0  # without an event either way; who is still there asks again
    stalled_s = 60.0  # for a reader to take what waits; by then its request was cancelled, too

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, config: WyomingConfig) -> None:
        self._reader = reader
        self._writer = writer
        self._most = config.max_text_bytes
        self._patience_s = config.event_timeout_s
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()

    async def read(self) -> Event | None:
        """The next event, None when the client has left. HttpProblem for what is none, or does not come in time."""
        first = await self._first()
        if not first:
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                event = await self._rest(first)
        except asyncio.IncompleteReadError:
            return None
        except TimeoutError:
            raise HttpProblem(408, "timeout", f"the event did not come within {self._patience_s:g} s") from None
        self._last = self._loop.time()
        return event

    async def write(self, kind: str, data: Mapping[str, object] | None = None, payload: bytes = b"") -> None:
        """Send an event, and wait until there is room for the next. ConnectionError if there is none for too long."""
        body = encode(data) if data else b""
        header: dict[str, object] = {"type": kind}
        if body:
            header["data_length"] = len(body)
        if payload:
            header["payload_length"] = len(payload)
        self._writer.write(b"".join((encode(header), _line_end, body, payload)))
        try:
            async with asyncio.timeout(self.stalled_s):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionAbortedError(f"nothing was read for {self.stalled_s:g} s") from None
        self._last = self._loop.time()

    async def tell(self, problem: HttpProblem) -> None:
        """Say what is wrong."""
        await self.write("error", {"text": str(problem), "code": problem.kind})

    async def finish(self) -> None:
        """Say no more, and let the client read what it was told.

        What it has sent meanwhile is read, too: a socket that is closed with something unread throws away both ways.
        """
        with contextlib.suppress(OSError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                while await self._reader.read(DISCARDED):
                    pass

    def close(self) -> None:
        """At once; what was not sent by now is not sent."""
        self._writer.transport.abort()

    async def _first(self) -> bytes:
        """The first byte of an event, b"" if there will be none. HttpProblem after nothing has happened for long."""
        while True:
            try:
                async with asyncio.timeout_at(self._last + self.idle_s) as limit:
                    return await self._reader.read(1)
            except TimeoutError:
                if not limit.expired():  # the system's own: the client is lost
                    raise ConnectionAbortedError("the client does not answer") from None
            if self._last + self.idle_s <= self._loop.time():  # no sound was sent meanwhile
                raise HttpProblem(408, "timeout", f"nothing was said for {self.idle_s:g} s")

    async def _rest(self, first: bytes) -> Event:
        try:
            line = first if first == _line_end else first + await self._reader.readuntil(_line_end)
        except asyncio.LimitOverrunError:
            raise HttpProblem(413, VALIDATION, f"the event's header has more than {self._most} bytes") from None
        try:
            header = _header.decode(line)
            data = dict(header.data or {})
            data.update(_data.decode(await self._bytes("data", header.data_length)) if header.data_length else {})
        except (msgspec.DecodeError, RecursionError) as problem:
            raise HttpProblem(422, VALIDATION, f"the event is none: {problem}") from None
        await self._bytes("payload", header.payload_length)
        return Event(header.type, data)

    async def _bytes(self, what: str, length: int | None) -> bytes:
        if (length or 0) > self._most:
            text = f"the event's {what} has {length} bytes; at most {self._most} are taken"
            raise HttpProblem(413, VALIDATION, text)
        return await self._reader.readexactly(length or 0)
