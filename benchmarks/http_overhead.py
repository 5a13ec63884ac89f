"""What HTTP adds to the time to first audio: the same sentences over the Python client and over HTTP, in turn.

`python benchmarks/http_overhead.py --requests 100`: one server, both clients on this host, and a model that takes no
time, as what a real one takes varies by more than what is looked for here.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import numpy as np

from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams
from max_pipelines.client import AsyncClient

TEXT = "The quick brown fox jumps over the lazy dog today."
WARM_UP = 10
PAUSE_S = 0.02
CONFIG = """
model: {name: voice}
pipeline: {kind: trivial, options: {chunks: 4, samples: 2048}}
"""


@contextmanager
def serving() -> Iterator[tuple[str, str]]:
    """A server; its address, and its URL."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{folder}/road"
        config = Path(folder) / "config.yaml"
        config.write_text(CONFIG)
        command = [sys.executable, "-P", "-m", "max_pipelines.cli", "serve", str(config)]
        command += ["--address", address, "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                lines = process.stdout or iter(())
                found = next(match for line in lines if (match := re.search(r"over HTTP at (\S+)", line)))
                yield address, found[1]
            finally:
                process.terminate()


async def over_python(client: AsyncClient, seed: int) -> float:
    """Seconds to the first samples."""
    seconds = 0.0
    begin = time.perf_counter()
    request = AudioGenerationRequest(RequestID(), "voice", TEXT, sampling_params=SamplingParams(seed=seed))
    async for output in client.stream(request):
        if output.audio_data.size:
            seconds = seconds or time.perf_counter() - begin
    return seconds


async def over_http(client: httpx2.AsyncClient, seed: int, form: str) -> float:
    """Seconds to the first bytes."""
    seconds = 0.0
    begin = time.perf_counter()
    body = {"model": "voice", "input": TEXT, "response_format": form, "seed": seed}
    async with client.stream("POST", "/v1/audio/speech", json=body) as answer:
        async for _ in answer.aiter_raw():
            seconds = seconds or time.perf_counter() - begin
    return seconds


async def main(requests: int) -> None:
    """Both, in turn, so that both meet the same noise."""
    ways = ("python", "pcm", "wav", "mp3", "opus", "aac", "flac")
    times: dict[str, list[float]] = {way: [] for way in ways}
    with serving() as (address, url):
        async with AsyncClient.connect(address) as client, httpx2.AsyncClient(base_url=url, timeout=60) as web:
            for number in range(requests + WARM_UP):
                for way in ways:
                    await asyncio.sleep(PAUSE_S)
                    run = over_python(client, number) if way == "python" else over_http(web, number, way)
                    times[way].append(await run)
    for way in ways:
        kept = np.array(times[way][WARM_UP:]) * 1000
        added = float(np.median(kept - np.array(times["python"][WARM_UP:]) * 1000))
        print(f"{way:<8} p50 {np.median(kept):7.2f} ms   p99 {np.percentile(kept, 99):7.1f} ms   adds {added:+6.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100)
    asyncio.run(main(parser.parse_args().requests))
