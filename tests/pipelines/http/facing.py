"""A face that listens on a real socket, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, HttpConfig, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.http.face import Face
from max_pipelines.http.listening import listen, url
from max_pipelines.http.process import build_server
from max_pipelines.http.traces import Tracing
from max_pipelines.http.uploads import Uploads

PATIENCE_S = 60.0
Body = dict[str, Any]


@dataclass
class Facing:
    """A face, and somebody who asks it."""

    face: Face
    url: str
    asks: httpx2.AsyncClient

    async def post(self, path: str, body: Body, **options: Any) -> httpx2.Response:
        return await self.asks.post(path, json=body, **options)

    async def gauges(self) -> dict[str, int]:
        """How the server is."""
        return dict((await self.face.client.report()).gauges)


@asynccontextmanager
async def facing(
    config: Config, http: HttpConfig | None = None, *, opened: bool = True, tracing: Tracing | None = None
) -> AsyncIterator[Facing]:
    """A server of its own, and its face."""
    http = http or HttpConfig()
    uploads = Uploads(config) if http.voice_uploads else None
    face = Face(AsyncClient.embedded(config), http, config.model.name, uploads=uploads)
    with listen(http, port=0) as socket:
        server = build_server(face, socket, tracing)
        serving = asyncio.ensure_future(server.serve([socket]))
        try:
            if opened:
                await face.open()
            async with httpx2.AsyncClient(base_url=url(socket), timeout=PATIENCE_S) as asks:
                yield Facing(face, url(socket), asks)
        finally:
            server.should_exit = True
            await serving
            await face.close()


def trivial(chunks: int = 4, samples: int = 2400, **limits: int) -> Config:
    """A pipeline that does nothing but answer, in threads of this process. Its sound has 24,000 samples a second."""
    return Config(
        model=ModelConfig(name="voice"),
        pipeline=PipelineConfig(kind="trivial", options={"chunks": chunks, "samples": samples}),
        workers=WorkersConfig(transport="thread"),
    )
