"""A worker is killed while many listen: how long until each of them hears more?

`python benchmarks/failover.py --listeners 32`: the embedded voice, a worker that works, and one that stands by.
Prints the time from each kill until the server knows of it, and to each listener's next chunk, which may have been on
its way; and the longest time without a chunk from then on, beside that of a run in which nothing happens.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from max_interfaces import AudioGenerationRequest, RequestID, SamplingParams
from max_interfaces.messages import WorkerReport
from max_pipelines.client import AsyncClient
from max_pipelines.config import load_config

TEXT = "The quick brown fox jumps over the lazy dog today."
LOOK_S = 0.02
ASK_S = 0.002


@dataclass
class Listener:
    """One sound, and when each of its chunks arrived."""

    sound: list[NDArray[np.float32]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def wait(self, moment: float) -> float | None:
        """From a moment to the next chunk; None if none was to come."""
        return next((arrival - moment for arrival in self.arrivals if arrival > moment), None)

    def gap(self, moment: float) -> float | None:
        """The longest time without a chunk from a moment on; None if none was to come."""
        later = [arrival for arrival in self.arrivals if arrival > moment]
        return max(b - a for a, b in pairwise([moment, *later])) if later else None


async def listen(client: AsyncClient, listener: Listener, seed: int) -> None:
    """Hear one request to its end."""
    params = SamplingParams(seed=seed)
    async for output in client.stream(
        AudioGenerationRequest(RequestID(), "maxpipe-voice", TEXT, sampling_params=params)
    ):
        listener.sound.append(output.audio_data)
        listener.arrivals.append(time.monotonic())


async def workers(client: AsyncClient, *, standby: int) -> list[WorkerReport]:
    """The workers, once so many stand by."""
    while True:
        found = (await client.report()).workers
        if sum(worker.ready and worker.standby for worker in found) >= standby:
            return list(found)
        await asyncio.sleep(LOOK_S)


@dataclass
class Kill:
    """When a worker was killed, and how many seconds later the server knew."""

    moment: float
    known_s: float


async def kill(client: AsyncClient, worker: WorkerReport) -> Kill:
    """Kill a worker, and ask the server for its workers until that one is not among them."""
    moment = time.monotonic()
    os.kill(worker.gauges["pid"], signal.SIGKILL)
    while any(one.name == worker.name for one in (await client.report()).workers):
        await asyncio.sleep(ASK_S)
    return Kill(moment, time.monotonic() - moment)


async def run(client: AsyncClient, count: int, kills: int) -> tuple[list[Listener], list[Kill]]:
    """Everybody listens while the worker is killed so many times, evenly over the time."""
    listeners = [Listener() for _ in range(count)]
    listening = asyncio.gather(*(listen(client, listener, seed) for seed, listener in enumerate(listeners)))
    done: list[Kill] = []
    for _ in range(kills):
        heard = sum(len(listener.arrivals) for listener in listeners)
        while sum(len(listener.arrivals) for listener in listeners) < heard + 2 * count:
            await asyncio.sleep(LOOK_S)
        busiest = max(await workers(client, standby=1), key=lambda worker: worker.running)
        if not busiest.running:  # all had been said before another worker stood by
            break
        done.append(await kill(client, busiest))
    await listening
    return listeners, done


def told(gaps: Sequence[float | None]) -> str:
    """Their middle, the 95th of a hundred, and the longest, of those that there are."""
    known = sorted(gap for gap in gaps if gap is not None)
    if not known:
        return "nobody had more to hear"
    p95 = known[min(len(known) - 1, int(0.95 * len(known)))]
    return f"p50 {known[len(known) // 2]:.3f} s   p95 {p95:.3f} s   max {known[-1]:.3f} s   of {len(known)}"


async def main(count: int, kills: int) -> None:
    """Both runs, and what was measured."""
    config = load_config("configs/speech.yaml")
    config = msgspec.structs.replace(
        config,
        workers=msgspec.structs.replace(config.workers, standby=1),
        engine=msgspec.structs.replace(config.engine, max_batch=max(count, 16)),
    )
    async with AsyncClient.embedded(config) as client:
        await workers(client, standby=1)
        calm, _ = await run(client, count, 0)
        struck, done = await run(client, count, kills)
    same = all(
        np.allclose(np.concatenate(one.sound), np.concatenate(other.sound), atol=1e-4)
        for one, other in zip(calm, struck, strict=True)
    )
    print(f"undisturbed, longest time without a chunk  {told([one.gap(one.arrivals[0]) for one in calm])}")
    for number, death in enumerate(done, 1):
        print(f"kill {number}, until the server knows               {death.known_s:.3f} s")
        print(f"kill {number}, to the next chunk                    {told([one.wait(death.moment) for one in struck])}")
        print(f"kill {number}, longest time without from then on    {told([one.gap(death.moment) for one in struck])}")
    print(f"the sounds are {'the same' if same else 'NOT the same'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--listeners", type=int, default=32)
    parser.add_argument("--kills", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(main(options.listeners, options.kills))
