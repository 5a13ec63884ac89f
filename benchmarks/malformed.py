"""How long the refusal of a malformed request takes, by its kind: p50 and the longest, in milliseconds.

    python benchmarks/malformed.py [--rounds 20]

Over a real socket, on a tiny random model; the client's own time is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from tests.pipelines.http.facing import facing
from tests.pipelines.http.test_malformed import BAD
from tests.tiny_text import make_tiny_text

PATHS = ("/v1/chat/completions", "/generate")


async def measure(rounds: int) -> None:
    """Print a line for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        async with facing(make_tiny_text(Path(folder))) as served:
            for kind, (body, content_type, _) in BAD.items():
                headers = {"content-type": content_type} if content_type else {}
                times = []
                for path in PATHS * rounds:
                    begin = time.perf_counter()
                    await served.asks.post(path, content=body, headers=headers)
                    times.append(1000 * (time.perf_counter() - begin))
                print(f"{kind:34} p50 {statistics.median(times):6.2f} ms   longest {max(times):6.2f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    asyncio.run(measure(parser.parse_args().rounds))
