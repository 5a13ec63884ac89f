"""How long the refusal of a malformed request takes, by its kind: p50 and the longest, in milliseconds.

    python benchmarks/malformed.py [--rounds 20]

Over real sockets, on each path that takes a body, of a tiny random model and of a trivial voice; the client's own time
is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.pipelines.http.facing import Facing, facing, trivial
from tests.pipelines.http.test_heads import NO_HTTP, said
from tests.pipelines.http.test_malformed import BAD, GOOD
from tests.tiny_text import make_tiny_text


async def measure(rounds: int) -> None:
    """Print a line for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_tiny_text(Path(folder), transport="thread")
        async with facing(tiny) as text, facing(trivial()) as voice:
            for path, body in GOOD.items():  # what is made once, for the first request, is in no time below
                await _served(path, text, voice).post(path, body)
            for kind in BAD:
                await _line(kind, [refusal for path in GOOD for refusal in [_body(kind, path, text, voice)] * rounds])
            for kind, data in NO_HTTP.items():
                await _line(kind, [lambda data=data: said(text, data)] * rounds)  # type: ignore[misc]


def _served(path: str, text: Facing, voice: Facing) -> Facing:
    return voice if "speech" in path else text


def _body(kind: str, path: str, text: Facing, voice: Facing) -> Callable[[], Awaitable[object]]:
    content, content_type, _ = BAD[kind]
    headers = {"content-type": content_type} if content_type else {}
    return lambda: _served(path, text, voice).asks.post(path, content=content, headers=headers)


async def _line(kind: str, refusals: list[Callable[[], Awaitable[object]]]) -> None:
    times = []
    for refusal in refusals:
        begin = time.perf_counter()
        await refusal()
        times.append(1000 * (time.perf_counter() - begin))
    print(f"{kind:34} p50 {statistics.median(times):6.2f} ms   longest {max(times):6.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    asyncio.run(measure(parser.parse_args().rounds))
