"""Readers that are slow, or never read: others do not notice, nothing grows, and who reads at all misses nothing."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import AudioGenerationOutput, Failure, FailureKind, RequestFailed, SamplingParams
from max_pipelines.client import AsyncClient, Client
from max_pipelines.client.stream import OutputStream
from max_pipelines.config import Config, Limits
from tests.faults.listening import percentile
from tests.pipelines.processes import PATIENCE_S, Served, config, install, serving, speech
from tests.pipelines.test_soak import family, resident_mb

READERS = 32
RATE, SAMPLES = 100, 10  # a second, and of a chunk: it plays for 0.1 s, and takes a tenth of that to make
AHEAD_S, STALL_S = 0.5, 1.0  # a reader may be five chunks behind, and for a second
ENOUGH = 200  # chunks that others read, while one reads none
MOST_KEPT = ENOUGH // 2  # chunks that such a one is sent, with those on their way when its request was to rest
PLAYED, STOOD = 30, 100  # chunks of sounds that are played, and that are left standing half-way
PAUSE_S = 0.4  # the longest between two reads by fits and starts
ENDLESS = 10**9
TURNS, HEARD, LONG_STALL_S = 2, 1000, 600.0  # in the soak: chunks that each other reader hears, while one reads none
SENTENCES, TEN_MINUTES_S = 720, 600.0  # in the soak
SLACK_MB = 32.0  # of memory that may come and go

SOURCE = '''
import threading
import numpy as np
from max_pipelines.registry import ServedPipeline
from max_interfaces import (
    AudioGenerationMetadata, AudioGenerationOutput, AudioGenerationRequest, Chunk, GenerationStatus, PipelineTask
)

class Swift:
    """A chunk each 10 ms, as many as the text says. Sample i of each sound is i."""

    def __init__(self, samples):
        self.samples = samples
        self.wanted = {}
        self.made = {}

    def admit(self, attempt):
        self.wanted[attempt.request.request_id] = int(attempt.request.input)
        self.made[attempt.request.request_id] = attempt.next_seq

    def execute(self, active):
        threading.Event().wait(0.01)
        return [self.chunk(request_id) for request_id in active]

    def chunk(self, request_id):
        number, size = self.made[request_id], self.samples
        self.made[request_id] += 1
        last = self.made[request_id] == self.wanted[request_id]
        output = AudioGenerationOutput(
            GenerationStatus.END_OF_SEQUENCE if last else GenerationStatus.ACTIVE,
            1,
            np.arange(number * size, (number + 1) * size, dtype=np.float32),
            metadata=AudioGenerationMetadata(chunk_id=number, final_chunk=last),
        )
        return Chunk(request_id, output, (0,), number * size, size)

    def release(self, request_id):
        self.wanted.pop(request_id, None)
        self.made.pop(request_id, None)

def swift(config):
    options = config.pipeline.options
    pipeline, places = Swift(options["samples"]), options["places"]
    task = PipelineTask.AUDIO_GENERATION
    return ServedPipeline(pipeline, AudioGenerationRequest, task, places, sample_rate=options["rate"])
'''

Serve = Callable[[float], AbstractContextManager[Served]]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """A server of the pipeline above, for readers that may read nothing for a time."""
    install(tmp_path / "site", "swift_plugin", SOURCE, "[maxpipe.pipelines]\nswift = swift_plugin:swift\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def start(stall_s: float) -> AbstractContextManager[Served]:
        limits = Limits(ahead_s=AHEAD_S, stall_s=stall_s)
        return serving(config("swift", limits=limits, places=READERS, rate=RATE, samples=SAMPLES), tmp_path)

    return start


# -- who never reads -------------------------------------------------------------------------------------------------


@dataclass
class NeverReads:
    """A program of its own, in a thread, that does not read what it asked for, until it is let."""

    address: str
    hangs: bool  # its whole event loop stands, or only this reader
    let: threading.Event = field(default_factory=threading.Event)

    def run(self) -> tuple[int, Failure]:
        """How many chunks were kept for it, and how its request ended."""
        return asyncio.run(self._main())

    async def _main(self) -> tuple[int, Failure]:
        async with AsyncClient.connect(self.address) as client:
            stream = client.stream(speech(str(ENDLESS))).submit()
            if self.hangs:
                self.let.wait(PATIENCE_S)
            else:
                await asyncio.to_thread(self.let.wait, PATIENCE_S)
            return await kept(stream)


async def kept(stream: OutputStream[AudioGenerationOutput]) -> tuple[int, Failure]:
    """How many outputs a stream gives before it fails, and why it does."""
    count = 0
    try:
        async for output in stream:
            assert output.metadata.chunk_id == count
            count += 1
    except RequestFailed as problem:
        return count, problem.failure
    raise AssertionError("it has not failed")


@dataclass
class Readers:
    """Read on and on."""

    client: AsyncClient
    counts: list[int]
    gaps: list[float] = field(default_factory=list)  # between two chunks of a reader, in seconds
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self, number: int) -> None:
        """As fast as it comes."""
        before = time.monotonic()
        async for output in self.client.stream(speech(str(ENDLESS))):
            assert output.metadata.chunk_id == self.counts[number]
            self.counts[number] += 1
            now = time.monotonic()
            self.gaps.append(now - before)
            before = now
            self.news.set()

    async def until(self, chunks: int) -> None:
        """Return when each has read so many."""
        while min(self.counts) < chunks:
            self.news.clear()
            await self.news.wait()


async def runs(client: AsyncClient, count: int) -> None:
    """Wait until so many requests run."""
    while sum(worker.running for worker in (await client.report()).workers) < count:
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("hangs", [False, True], ids=["one reader", "its whole program"])
async def test_who_never_reads_is_ended_and_31_others_do_not_notice(serve: Serve, hangs: bool) -> None:
    with serve(STALL_S) as served:
        async with asyncio.timeout(PATIENCE_S), AsyncClient.connect(served.address) as client:
            never = NeverReads(served.address, hangs)
            ending = asyncio.ensure_future(asyncio.to_thread(never.run))
            await runs(client, 1)
            readers = Readers(client, [0] * (READERS - 1))
            reading = [asyncio.ensure_future(readers.read(number)) for number in range(READERS - 1)]
            await runs(client, READERS)
            before = resident_mb(served.process.pid)
            assert (await client.generate(speech("1"))).is_done  # which had to wait for the place of who never reads
            await readers.until(ENOUGH)
            never.let.set()
            count, failure = await ending
            grown = resident_mb(served.process.pid) - before
            assert not any(task.done() for task in reading)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
    print(f"{count} chunks kept while others read {min(readers.counts)} to {max(readers.counts)}; +{grown:.1f} MB")
    assert failure.kind is FailureKind.STALLED
    assert "nothing of it was read for 1 s" in failure.message
    assert 0 < count <= MOST_KEPT


@pytest.mark.soak
async def test_31_others_hear_as_often_beside_one_that_never_reads(serve: Serve) -> None:
    """In turn without it and with it, on the same server: printed is how often they do."""
    gaps: dict[bool, list[float]] = {False: [], True: []}
    with serve(LONG_STALL_S) as served:
        async with AsyncClient.connect(served.address) as client, AsyncClient.connect(served.address) as other:
            readers = Readers(client, [0] * (READERS - 1))
            reading = [asyncio.ensure_future(readers.read(number)) for number in range(READERS - 1)]
            await readers.until(1)
            for turn in range(2 * TURNS):
                beside = bool(turn % 2)
                never = other.stream(speech(str(ENDLESS)))
                if beside:
                    never.submit()
                    await runs(client, READERS)
                readers.gaps = gaps[beside]
                await readers.until(min(readers.counts) + HEARD)
                readers.gaps = []
                assert (await client.report()).gauges["requests"] == READERS - 1 + beside
                await never.aclose()
            assert not any(task.done() for task in reading)
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
    alone, beside_it = (1000 * percentile(gaps[beside], 0.99) for beside in (False, True))
    print(f"99 % of {len(gaps[False])} and {len(gaps[True])} chunks came within {alone:.1f} ms after the one before,")
    print(f"and within {beside_it:.1f} ms beside one that never reads: {beside_it / alone:.3f} times as long")
    assert min(map(len, gaps.values())) > 0.9 * TURNS * HEARD * (READERS - 1)


# -- who reads slowly ------------------------------------------------------------------------------------------------


async def play(outputs: AsyncIterator[AudioGenerationOutput], rate: int, late: list[float]) -> NDArray[np.float32]:
    """Read at exactly playing speed. How late each chunk came goes to `late`, in seconds: above 0 there was silence."""
    begun, heard = 0.0, 0.0
    parts: list[NDArray[np.float32]] = []
    async for output in outputs:
        now = time.monotonic()
        begun = begun or now
        late.append(now - begun - heard)
        assert output.metadata.chunk_id == len(parts)
        parts.append(output.audio_data)
        heard += output.audio_data.size / rate
        await asyncio.sleep(begun + heard - time.monotonic())
    assert output.is_done
    return np.concatenate(parts)


async def whole(outputs: AsyncIterator[AudioGenerationOutput], pause_s: Callable[[], float]) -> NDArray[np.float32]:
    """Read with a pause after each chunk."""
    parts: list[NDArray[np.float32]] = []
    async for output in outputs:
        assert output.metadata.chunk_id == len(parts)
        parts.append(output.audio_data)
        await asyncio.sleep(pause_s())
    assert output.is_done
    return np.concatenate(parts)


async def test_who_reads_slowly_misses_nothing(serve: Serve) -> None:
    """At exactly playing speed, or by fits and starts."""
    chance, late = random.Random(1), list[float]()
    with serve(PATIENCE_S) as served:
        async with AsyncClient.connect(served.address) as client, asyncio.timeout(PATIENCE_S):
            playing = asyncio.ensure_future(play(client.stream(speech(str(PLAYED))), RATE, late))
            await client.generate(speech(str(PLAYED)))  # begun later, and read at once: it is through long before
            assert (await client.report()).gauges["requests"] == 1, "what nobody has heard yet was made all the same"
            others = [
                whole(client.stream(speech(str(PLAYED))), lambda: PAUSE_S * chance.random() ** 4)
                for _ in range(READERS // 2)
            ]
            for sound in await asyncio.gather(playing, *others):
                np.testing.assert_array_equal(sound, np.arange(PLAYED * SAMPLES))
    print(f"{len(late)} chunks, the latest {1000 * max(late[1:]):.0f} ms late")


def test_a_plain_stream_that_is_left_standing_rests_and_goes_on(serve: Serve) -> None:
    with serve(PATIENCE_S) as served, Client.connect(served.address) as client:
        standing = iter(client.stream(speech(str(STOOD))))
        numbers = [next(standing).metadata.chunk_id for _ in range(3)]
        client.generate(speech(str(STOOD)))
        assert client.report().gauges["requests"] == 1, "what nobody reads was made all the same"
        numbers += [output.metadata.chunk_id for output in standing]
        assert numbers == list(range(STOOD))


@pytest.mark.soak
async def test_ten_minutes_at_playing_speed_are_what_they_are_at_once(tiny_voice: Config) -> None:
    """Played, and read as fast as it comes by somebody else at the same time: the same sound to the last sample."""
    text = " ".join(f"Sentence number {number} of a long and quiet story." for number in range(SENTENCES))
    params = SamplingParams(seed=1)
    tiny = msgspec.structs.replace(tiny_voice, limits=Limits(ahead_s=AHEAD_S / 2, stall_s=STALL_S * 5))
    late: list[float] = []
    async with AsyncClient.embedded(tiny) as client:
        rate = client.model().sample_rate

        async def at_once() -> NDArray[np.float32]:
            return await whole(client.speak(text, sampling_params=params), lambda: 0.0)

        reading = asyncio.ensure_future(at_once())
        playing = asyncio.ensure_future(play(client.speak(text, sampling_params=params), rate, late))
        read = await reading
        settled = family(os.getpid())
        played = await playing
        grown = {name: size - settled[name] for name, size in family(os.getpid()).items()}
    print(f"{played.size / rate:.0f} s in {len(late)} chunks, late by {1000 * percentile(late, 0.99):.0f} ms (99 %),")
    print(f"{1000 * max(late[1:]):.0f} ms (latest); grown since it was made: {grown} MB")
    assert played.size / rate >= TEN_MINUTES_S
    np.testing.assert_array_equal(played, read)
    assert max(grown.values()) < SLACK_MB
