"""Many listeners at once, what each of them heard and when, and the workers that they hear it from."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from max_interfaces import AudioGenerationOutput, AudioGenerationRequest, RequestFailed, RequestID, SamplingParams
from max_pipelines.client import AsyncClient
from tests.pipelines.processes import children, command_of

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@dataclass
class Heard:
    """One sound, as its listener got it."""

    samples: NDArray[np.float32]
    arrivals: list[float]
    last: AudioGenerationOutput
    tokens: int

    def equals(self, other: Heard) -> bool:
        """The same sound, from the same tokens."""
        mine, others = self.last.buffer_speech_tokens, other.last.buffer_speech_tokens
        return (
            self.samples.size == other.samples.size
            and float(np.abs(self.samples - other.samples).max(initial=0.0)) <= 1e-4
            and self.tokens == other.tokens
            and mine is not None
            and others is not None
            and np.array_equal(mine, others)
            and self.last.buffer_position == other.last.buffer_position
        )

    def wait(self, moment: float) -> float | None:
        """From a moment to the next chunk, in seconds; None if none was to come."""
        return next((arrival - moment for arrival in self.arrivals if arrival > moment), None)

    def gap(self, moment: float) -> float | None:
        """The longest time without a chunk from a moment on, in seconds; None if none was to come."""
        later = [arrival for arrival in self.arrivals if arrival > moment]
        return max(b - a for a, b in pairwise([moment, *later])) if later else None


@dataclass
class Audience:
    """Listens to many requests at once. `chunks` counts what has arrived; `texts` are those that are no ten words."""

    client: AsyncClient
    model: str
    texts: Mapping[int, str] = field(default_factory=dict)
    chunks: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, number: int) -> Heard:
        """One request of ten words, to its end."""
        words = [WORDS[(number + step) % 10] for step in range(10)]
        text = self.texts.get(number, " ".join(words))
        params = SamplingParams(seed=number)
        request = AudioGenerationRequest(RequestID(), self.model, text, sampling_params=params)
        outputs: list[AudioGenerationOutput] = []
        arrivals: list[float] = []
        async for output in self.client.stream(request):
            assert output.metadata.chunk_id == len(outputs)
            outputs.append(output)
            arrivals.append(time.monotonic())
            self.chunks += 1
            self.news.set()
        samples = np.concatenate([output.audio_data for output in outputs])
        return Heard(samples, arrivals, outputs[-1], sum(output.steps_executed for output in outputs))

    async def all(self, count: int) -> list[Heard]:
        """`count` requests at once."""
        return list(await asyncio.gather(*(self.listen(number) for number in range(count))))

    async def outcomes(self, count: int) -> list[Heard | RequestFailed]:
        """The same, where some may fail."""
        found = await asyncio.gather(*(self.listen(number) for number in range(count)), return_exceptions=True)
        for one in found:
            if not isinstance(one, Heard | RequestFailed):
                raise one
        return [one for one in found if isinstance(one, Heard | RequestFailed)]

    async def until(self, chunks: int) -> None:
        """Return when so many chunks have arrived in all."""
        while self.chunks < chunks:
            self.news.clear()
            await self.news.wait()


def workers_of(server: int) -> dict[str, int]:
    """The process ids of a server's workers, by name."""
    found = {}
    for pid in children(server):
        words = command_of(pid).split()
        if "--name" in words:
            found[words[words.index("--name") + 1]] = pid
    return found


async def busiest(client: AsyncClient) -> str:
    """The worker that has most to do; it must have something."""
    report = await client.report()
    worker = max(report.workers, key=lambda worker: worker.running)
    assert worker.running, "nobody has anything to do any more"
    return worker.name


@dataclass
class Strike:
    """Harm done to a worker: the moment, and how many seconds later the server had lost it."""

    moment: float
    known_s: float

    def told(self, heard: Sequence[Heard]) -> str:
        """What came of it, in words and seconds."""
        waits = [wait for one in heard if (wait := one.wait(self.moment)) is not None]
        gaps = [gap for one in heard if (gap := one.gap(self.moment)) is not None]
        if not gaps:
            return f"known after {self.known_s:.3f} s; nobody had more to hear"
        following = f"the next chunk after p95 {percentile(waits, 0.95):.3f}, max {max(waits):.3f} s"
        longest = f"the longest gap from there on p95 {percentile(gaps, 0.95):.3f}, max {max(gaps):.3f} s"
        return f"known after {self.known_s:.3f} s; {len(gaps)} heard more, {following}, {longest}"


async def strike(client: AsyncClient, harm: Callable[[str], None]) -> Strike:
    """Do harm to the busiest worker, which is named; return when the server no longer has it."""
    name = await busiest(client)
    moment = time.monotonic()
    harm(name)
    while any(worker.name == name for worker in (await client.report()).workers):
        await asyncio.sleep(0.002)
    return Strike(moment, time.monotonic() - moment)


def sends(number: signal.Signals, server: int) -> Callable[[str], None]:
    """The harm of a signal to a worker of this server."""
    return lambda name: os.kill(workers_of(server)[name], number)


async def standby_is_ready(client: AsyncClient, count: int = 1) -> None:
    """Wait until so many workers stand by."""
    async with asyncio.timeout(60):
        while sum(worker.ready and worker.standby for worker in (await client.report()).workers) < count:
            await asyncio.sleep(0.02)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]
