"""`maxpipe bench queue`: the road itself, with a worker that does nothing.

idle         one request every 50 ms: how fast a sleeping road wakes up, beside a bare pyzmq echo that moves
                 the same bytes
serial       one request after another
concurrent   many requests at once, 20 chunks of 16 KB each, every chunk seen by its own consumer
"""

from __future__ import annotations

import asyncio
import gc
import time

from tqdm import tqdm

from max_interfaces import AudioGenerationRequest, RequestID
from max_interfaces.messages import Submit, encode_header
from max_interfaces.wire import encode_payload

from ..address import private_folder
from ..client import AsyncClient
from ..config import Config, ModelConfig, PipelineConfig
from .echo import BareEcho
from .figures import Figures, spread

CHUNKS = 20
SAMPLES = 4096  # 16 KB of float32
INTERVAL_S = 0.05
WARM_UP = 20


def _config(chunks: int) -> Config:
    options = {"chunks": chunks, "samples": SAMPLES}
    return Config(model=ModelConfig(name="trivial"), pipeline=PipelineConfig(kind="trivial", options=options))


def _request() -> AudioGenerationRequest:
    return AudioGenerationRequest(RequestID(), "trivial", "a sentence of everyday length, as people say them")


async def bench_queue(requests: int, concurrent: int) -> Figures:
    """All three rows."""
    figures: Figures = {}
    with private_folder() as folder:
        echo = BareEcho(str(folder), 4 * SAMPLES)
        try:
            async with AsyncClient.embedded(_config(1)) as client:
                figures |= await _idle(client, echo, requests)
                figures |= await _serial(client, echo, requests)
        finally:
            echo.close()
    async with AsyncClient.embedded(_config(CHUNKS)) as client:
        figures |= await _concurrent(client, concurrent)
    return figures


async def _round_trip(client: AsyncClient) -> float:
    """Seconds from the submission to the first chunk; the rest is read as well."""
    request = _request()
    seconds = 0.0
    begin = time.perf_counter()
    async for _ in client.stream(request):
        seconds = seconds or time.perf_counter() - begin
    return seconds


def _bare(echo: BareEcho) -> float:
    request = _request()
    begin = time.perf_counter()
    header = encode_header(Submit(request.request_id.value, "trivial", 300.0))
    frames = [bytes(frame) for frame in encode_payload([request])]
    echo.round_trip([header, *frames])
    return time.perf_counter() - begin


async def _idle(client: AsyncClient, echo: BareEcho, requests: int) -> Figures:
    """Ours and the bare echo in turn, so that both meet the same noise."""
    ours: list[float] = []
    bare: list[float] = []
    for number in tqdm(range(requests + WARM_UP), "idle", leave=False, disable=None):
        for times, run in ((ours, _round_trip(client)), (bare, asyncio.to_thread(_bare, echo))):
            await asyncio.sleep(INTERVAL_S / 2)
            seconds = await run
            if number >= WARM_UP:
                times.append(seconds)
    figures = spread("idle", ours) | spread("idle.bare", bare)
    figures = {name.replace("bare.p", "bare_p"): value for name, value in figures.items()}
    return figures | {"idle.ratio": figures["idle.p50_ms"] / figures["idle.bare_p50_ms"]}


async def _serial(client: AsyncClient, echo: BareEcho, requests: int) -> Figures:
    ours = [await _round_trip(client) for _ in tqdm(range(requests), "serial", leave=False, disable=None)]
    bare = [_bare(echo) for _ in range(requests)]
    return spread("serial", ours) | {"serial.bare_p50_ms": spread("", bare)[".p50_ms"]}


async def _concurrent(client: AsyncClient, concurrent: int) -> Figures:
    await _consume_all(client, concurrent)  # warm
    gc.collect()
    begin = time.perf_counter()
    chunks = await _consume_all(client, concurrent)
    seconds = time.perf_counter() - begin
    return {"concurrent.requests": concurrent, "chunks_per_s": chunks / seconds, "concurrent.seconds": seconds}


async def _consume_all(client: AsyncClient, concurrent: int) -> int:
    async def consume() -> int:
        count = 0
        async for output in client.stream(_request()):
            count += output.audio_data.size == SAMPLES
        return count

    return sum(await asyncio.gather(*(consume() for _ in range(concurrent))))
