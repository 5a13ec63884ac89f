"""A server that speaks Wyoming on a real socket, in the test's own event loop, and clients that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from wyoming.audio import AudioChunk
from wyoming.client import AsyncTcpClient
from wyoming.event import Event, Eventable

from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, HttpConfig, WyomingConfig
from max_pipelines.http.face import Face
from max_pipelines.wyoming.listening import listen, uri
from max_pipelines.wyoming.server import WyomingServer

PATIENCE_S = 60.0


@dataclass
class Served:
    """A face that listens, for Wyoming alone."""

    face: Face
    uri: str
    ending: asyncio.Event  # set to have it end

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.uri)
        return parts.hostname or "", parts.port or 0

    async def gauges(self) -> dict[str, int]:
        """How the server is."""
        return dict((await self.face.client.report()).gauges)

    async def rest(self) -> None:
        """Wait until nothing is being made."""
        async with asyncio.timeout(PATIENCE_S):
            while (await self.gauges())["requests"]:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    config: Config, wyoming: WyomingConfig | None = None, *, opened: bool = True
) -> AsyncIterator[Served]:
    """A server of its own, and its face."""
    wyoming = wyoming or WyomingConfig(port=0)
    face = Face(AsyncClient.embedded(config), HttpConfig(), config.model.name)
    ending = asyncio.Event()
    with listen(wyoming) as socket:
        task = asyncio.ensure_future(WyomingServer(face, wyoming).serve(socket, ending))
        try:
            if opened:
                await face.open()
            yield Served(face, uri(socket), ending)
        finally:
            ending.set()
            await task
            await face.close()


@dataclass
class Heard:
    """What came until the end of a sound, or of the connection."""

    kinds: list[str] = field(default_factory=list)
    pcm: bytes = b""
    rates: set[tuple[int, int, int]] = field(default_factory=set)
    error: dict[str, str] | None = None


class Talking:
    """A client of Python's own `wyoming` package."""

    def __init__(self, client: AsyncTcpClient) -> None:
        self.client = client

    async def say(self, *events: Eventable) -> None:
        for event in events:
            await self.client.write_event(event.event())

    async def hear(self) -> Event | None:
        """The next event, None when the server has closed."""
        return await asyncio.wait_for(self.client.read_event(), PATIENCE_S)

    async def until(self, *kinds: str) -> Event:
        """The next event of one of these kinds."""
        while (event := await self.hear()) is not None:
            if event.type in kinds:
                return event
        raise AssertionError(f"the server has closed before {kinds}")

    async def listen(self, last: str = "audio-stop") -> Heard:
        """All up to an event, which may be the end of the connection."""
        heard = Heard()
        while (event := await self.hear()) is not None:
            if not heard.kinds or heard.kinds[-1] != event.type:
                heard.kinds.append(event.type)
            if AudioChunk.is_type(event.type):
                chunk = AudioChunk.from_event(event)
                heard.pcm += chunk.audio
                heard.rates.add((chunk.rate, chunk.width, chunk.channels))
            if event.type == "error":
                heard.error = event.data
            if event.type == last:
                break
        return heard


@asynccontextmanager
async def talking(uri: str) -> AsyncIterator[Talking]:
    """A connection."""
    parts = urlsplit(uri)
    client = AsyncTcpClient(parts.hostname or "", parts.port or 0)
    await client.connect()
    try:
        yield Talking(client)
    finally:
        await leave(client)


async def leave(client: AsyncTcpClient) -> None:
    """Close a connection that the other end may have closed before."""
    with contextlib.suppress(ConnectionError):
        await client.disconnect()
