"""A client goes, in whatever phase its request is and in whatever way: nothing of it is left, anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import AudioGenerationOutput, AudioGenerationRequest, GenerationStatus, RequestID, SamplingParams
from max_interfaces.messages import Report
from max_pipelines.client import AsyncClient
from max_pipelines.client.stream import OutputStream
from max_pipelines.config import Config, Limits, PipelineConfig
from tests.pipelines.processes import PATIENCE_S, Served, install, serving

Stream: TypeAlias = OutputStream[AudioGenerationOutput]
Way: TypeAlias = Callable[[AsyncClient, dict[str, Stream]], Awaitable[None]]

PHASES = ("prefilling", "decoding", "read", "resting", "codec", "queued")  # in this order they are submitted
PLACES = len(PHASES) - 1  # so that the last one finds none
TOKEN_BUDGET = 16  # less than a prompt has
AHEAD_S = 0.05  # more than three frames, less than seven: what two chunks and three chunks have
LOOK_S = 0.02  # between two looks at a report
CALLERS = 12
CANCELS, MANY_CANCELS = 150, 2000
KILLS, MANY_KILLS = 3, 20  # client processes killed at random
WAYS, LIVE = ("cancelled", "closed", "abandoned", "dropped", "spoken", "hung up"), 0.3  # to leave, and before the end
SURVIVORS = 8  # one request of so many is heard to its end
SHORTEST_S, LONGEST_S = 0.001, 1.0  # until a request is left at random

SOURCE = '''
import os, threading, weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from max_pipelines.speech.build import build

GATE = Path(os.environ["MAXPIPE_GATE"])
RUNG, OPENED = os.open(GATE / "rung", os.O_RDWR), os.open(GATE / "opened", os.O_RDWR)
OTHERS = {"prefilling", "decoding", "read", "resting"}

class Staying:
    """Where a text begins with the name of a phase, its request stays in that phase.

    Once all OTHERS have someone, the request in `codec` makes its first chunk; that takes until the gate is opened.
    """

    def __init__(self, served):
        self.inner = served.pipeline
        self.served = served
        self.words = {}
        self.counts = Counter()
        self.sounds = weakref.WeakSet()
        self.beats = self.late = 0

    def admit(self, attempt):
        self.inner.admit(attempt)
        request_id = attempt.request.request_id
        self.words[request_id] = attempt.request.input.split()[0]
        self.sounds.add(self.inner._sounds[request_id])

    def execute(self, active):
        self.late += 1
        moving = self.moving(active)
        if not moving:
            threading.Event().wait(0.005)
            return []
        chunks = self.inner.execute(moving)
        self.counts.update((request_id, "steps") for request_id in moving)
        for chunk in chunks:
            self.counts[chunk.request_id, "tokens"] += len(chunk.tokens)
            self.counts[chunk.request_id, "outputs"] += chunk.output is not None
            if chunk.output is not None and self.words[chunk.request_id] == "codec":
                os.write(RUNG, b"!")
                os.read(OPENED, 1)
                self.late = 0
        return chunks

    def moving(self, active):
        staying = [one for one in self.words if self.stays(one)]
        there = {self.words[one] for one in staying if self.words[one] != "resting" or one not in active}
        moving = [one for one in active if one not in staying]
        return [one for one in moving if self.words[one] != "codec" or there >= OTHERS]

    def stays(self, one):
        match self.words[one]:
            case "prefilling":
                return self.counts[one, "steps"] >= 1
            case "decoding":
                return self.counts[one, "tokens"] >= 1
            case "read":
                return self.counts[one, "outputs"] >= 2
            case "resting":
                return self.counts[one, "outputs"] >= 3
            case "codec":
                return self.counts[one, "outputs"] >= 1
        return False

    def release(self, request_id):
        self.words.pop(request_id, None)
        for what in ("steps", "tokens", "outputs"):
            self.counts.pop((request_id, what), None)
        self.inner.release(request_id)

    def gauges(self):
        self.beats += 1
        return {
            **self.served.gauges(),
            "admitted": len(self.words),
            "sounds": len(self.inner._sounds),
            "sequences": len(self.inner._generator._scheduler.sequences),
            "buffers": len(self.sounds),
            "beats": self.beats,
            "late": self.late,
        }

def staying(config):
    served = build(config)
    pipeline = Staying(served)
    return replace(served, pipeline=pipeline, gauges=pipeline.gauges)
'''
COUNTERS = ("beats", "late")  # gauges that never come back to where they were

CLIENT = """
import asyncio
from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.client import AsyncClient

async def main():
    async with AsyncClient.connect({address!r}) as client:
        streams = [client.stream(AudioGenerationRequest(RequestID(), "tiny", text)).submit() for text in {texts!r}]
        if {read!r} >= 0:
            await anext(streams[{read!r}])
        print("streaming", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Gate:
    """Tells when the codec has begun with a chunk, and holds it up until it is opened."""

    def __init__(self, folder: Path) -> None:
        os.mkfifo(folder / "rung")
        os.mkfifo(folder / "opened")
        self._rung = os.open(folder / "rung", os.O_RDWR | os.O_NONBLOCK)
        self._opened = os.open(folder / "opened", os.O_RDWR)

    async def rung(self) -> None:
        """Wait until every phase has its request, and the codec is at work."""
        news = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._rung, news.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await news.wait()
        finally:
            loop.remove_reader(self._rung)
        os.read(self._rung, 1)

    def open(self) -> None:
        """Let the codec end its chunk."""
        os.write(self._opened, b"!")

    def close(self) -> None:
        """Both ends of both."""
        os.close(self._rung)
        os.close(self._opened)


@dataclass
class Stage:
    """A server whose worker says what it holds; `start` is what that was before the first request."""

    served: Served
    gate: Gate
    start: dict[str, int]

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[AsyncClient]:
        """A client that looks on. In the end nothing is left of what the others had: all is as it was at the start."""
        async with AsyncClient.connect(self.served.address) as observer:
            yield observer
            report = await at_rest(observer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    while holdings(report) != self.start:
                        await asyncio.sleep(LOOK_S)
                        report = await observer.report()
            assert holdings(report) == self.start


@pytest.fixture(scope="module")
def stage(tiny_voice: Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("cancel")
    install(folder / "site", "staying_speech", SOURCE, "[maxpipe.pipelines]\nstaying = staying_speech:staying\n")
    gate = Gate(folder)
    engine = msgspec.structs.replace(tiny_voice.engine, max_batch=PLACES, token_budget=TOKEN_BUDGET)
    config = msgspec.structs.replace(
        tiny_voice, pipeline=PipelineConfig(kind="staying"), engine=engine, limits=Limits(ahead_s=AHEAD_S)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder / "site"))
        patch.setenv("MAXPIPE_GATE", str(folder))
        with serving(config, folder) as served:
            yield Stage(served, gate, asyncio.run(holdings_at_rest(served.address)))
    gate.close()


def holdings(report: Report) -> dict[str, int]:
    """All that requests take, in the dispatcher's tables and in the workers'."""
    found = {name: report.gauges[name] for name in ("requests", "waiting", "clients", "bytes")}
    for worker in report.workers:
        gauges = {"running": worker.running, **worker.gauges}
        found |= {f"{worker.name} {name}": size for name, size in gauges.items() if name not in COUNTERS}
    return found


async def holdings_at_rest(address: str) -> dict[str, int]:
    async with AsyncClient.connect(address) as client:
        return holdings(await at_rest(client))


async def at_rest(client: AsyncClient) -> Report:
    """What each worker says next, once the server has forgotten every request."""
    report = await client.report()
    async with asyncio.timeout(PATIENCE_S):
        while any(report.gauges[name] for name in ("requests", "waiting", "clients")):
            await asyncio.sleep(LOOK_S)
            report = await client.report()
        before = beats(report)
        while any(new <= old for new, old in zip(beats(report), before, strict=True)):
            await asyncio.sleep(LOOK_S)
            report = await client.report()
    return report


def beats(report: Report) -> list[int]:
    """How often each worker has said what it holds."""
    return [worker.gauges.get("beats", 0) for worker in report.workers]


async def until(observer: AsyncClient, gauge: str, value: int) -> None:
    """Return when a gauge of the server has a value."""
    async with asyncio.timeout(PATIENCE_S):
        while (await observer.report()).gauges[gauge] != value:
            await asyncio.sleep(LOOK_S)


def text_in(phase: str) -> str:
    return f"{phase} one two three four five six seven"


def request(text: str, key: RequestID | None = None, seed: int | None = None) -> AudioGenerationRequest:
    return AudioGenerationRequest(key or RequestID(), "tiny", text, sampling_params=SamplingParams(seed=seed))


# -- in every phase ------------------------------------------------------------------------------------------------


async def cancelled(client: AsyncClient, streams: dict[str, Stream]) -> None:
    """Each stream ends with what had come, and with that status."""
    for phase in reversed(PHASES):  # the one that waits first: it is not to begin
        client.cancel(RequestID(phase))
    for phase, stream in streams.items():
        outputs = [output async for output in stream]
        assert outputs[-1].final_status is GenerationStatus.CANCELLED, phase
        assert len(outputs) - 1 == {"read": 1, "resting": 3}.get(phase, 0), phase


async def left(client: AsyncClient, streams: dict[str, Stream]) -> None:
    """Some are closed, the others just dropped, as a loop does that is left with `break`."""
    for phase in ("queued", "decoding", "read"):
        await streams.pop(phase).aclose()
    streams.clear()


async def abandoned(client: AsyncClient, streams: dict[str, Stream]) -> None:
    """The tasks that read them are cancelled."""
    tasks = [asyncio.ensure_future(to_the_end(streams[phase])) for phase in reversed(PHASES)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def closed(client: AsyncClient, streams: dict[str, Stream]) -> None:
    """The client is closed, and all its streams with it."""
    await client.close()


async def to_the_end(stream: Stream) -> list[AudioGenerationOutput]:
    return [output async for output in stream]


@pytest.mark.parametrize("way", [cancelled, left, abandoned, closed])
async def test_a_client_that_goes_leaves_nothing_in_any_phase(stage: Stage, way: Way) -> None:
    async with stage.watched() as observer, AsyncClient.connect(stage.served.address) as client:
        streams = {phase: client.stream(request(text_in(phase), RequestID(phase))).submit() for phase in PHASES}
        await stage.gate.rung()
        await until(observer, "waiting", 1)
        await anext(streams["read"])
        await way(client, streams)
        await until(observer, "requests", 0)  # while the codec is still at work: nobody waits for that
        stage.gate.open()
    # The step that was under way when they were cancelled may be followed by one that had begun to take its place.
    if way is cancelled:
        async with AsyncClient.connect(stage.served.address) as observer:
            (worker,) = (await observer.report()).workers
            print(f"steps after the one in which they were cancelled: {worker.gauges['late']}")
            assert worker.gauges["late"] <= 1


@pytest.mark.parametrize("mute", [False, True], ids=["some is sent to it", "nothing is sent to it"])
async def test_a_client_that_is_killed_leaves_nothing_in_any_phase(stage: Stage, mute: bool) -> None:
    """Where the worker goes on with something of it, it is missed at once; where nothing is said, by its lease."""
    mine = [phase for phase in PHASES if not (mute and phase == "codec")]
    async with stage.watched() as observer:
        other = observer.stream(request(text_in("codec")))
        if mute:
            other.submit()
        with a_client_process(stage.served.address, [text_in(phase) for phase in mine], mine.index("read")) as process:
            await stage.gate.rung()
            await until(observer, "waiting", 1)
            process.kill()
        killed = time.monotonic()
        stage.gate.open()
        if mute:
            await until(observer, "requests", 1)
            print(f"{time.monotonic() - killed:.1f} s until the server missed it")
        await other.aclose()


@contextlib.contextmanager
def a_client_process(address: str, texts: Sequence[str], read: int = -1) -> Iterator[subprocess.Popen[bytes]]:
    """A program that asks for all these texts and takes one chunk of number `read`, if that is any."""
    source = CLIENT.format(address=address, texts=list(texts), read=read)
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"streaming\n"
            yield process
        finally:
            process.kill()


# -- at random -------------------------------------------------------------------------------------------------------


def moment(chance: random.Random) -> float:
    """Of any size, in seconds."""
    return math.exp(chance.uniform(math.log(SHORTEST_S), math.log(LONGEST_S)))


@dataclass
class Crowd:
    """Callers that come and go. One request of SURVIVORS is heard to its end, and sounds as it does alone."""

    address: str
    clients: Sequence[AsyncClient]
    alone: NDArray[np.float32]
    left: int  # to be left
    chance: random.Random
    ends: Counter[str] = field(default_factory=Counter)

    async def call(self) -> None:
        """One request after the other."""
        while self.left > 0:
            client = self.chance.choice(self.clients)
            if not self.chance.randrange(SURVIVORS):
                await self._listen(client)
                continue
            self.left -= 1
            ways = [self._cancel, self._close, self._abandon, self._drop, self._stop_speaking, self._hang_up]
            await self.chance.choice(ways)(client)

    async def _listen(self, client: AsyncClient) -> None:
        outputs = await to_the_end(client.stream(request("a survivor", seed=1)))
        assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
        np.testing.assert_array_equal(np.concatenate([output.audio_data for output in outputs]), self.alone)
        self.ends["heard"] += 1

    async def _cancel(self, client: AsyncClient) -> None:
        asked = request(self._text())
        listening = asyncio.ensure_future(to_the_end(client.stream(asked)))
        await self._while()
        client.cancel(asked.request_id)
        self._left("cancelled", (await listening)[-1].final_status is GenerationStatus.CANCELLED)

    async def _close(self, client: AsyncClient) -> None:
        asked = request(self._text())
        stream = client.stream(asked).submit()
        await self._while()
        self._left("closed", asked.request_id.value in live(client))
        await stream.aclose()

    async def _abandon(self, client: AsyncClient) -> None:
        listening = asyncio.ensure_future(to_the_end(client.stream(request(self._text()))))
        await self._while()
        self._left("abandoned", not listening.done())
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _drop(self, client: AsyncClient) -> None:
        chunks = self.chance.randrange(1, 5)
        async for output in client.stream(request(self._text())):
            if output.is_done or output.metadata.chunk_id == chunks:
                break
        self._left("dropped", not output.is_done)

    async def _stop_speaking(self, client: AsyncClient) -> None:
        """While one part of a long text is heard, the next one is made."""
        chunks = self.chance.randrange(1, 10)
        async for output in client.speak(f"{self._text()}. {self._text()}. {self._text()}."):
            if output.metadata.chunk_id == chunks:
                break
        self._left("spoken", not output.is_done)

    async def _hang_up(self, _: AsyncClient) -> None:
        async with AsyncClient.connect(self.address) as client:
            stream = client.stream(request(self._text())).submit()  # kept: what is dropped is cancelled at once
            await self._while()
            self._left("hung up", bool(live(client)))
        del stream

    def _left(self, way: str, alive: bool) -> None:
        """A request was left in some way, before its end had come or after it."""
        self.ends[way if alive else f"{way} too late"] += 1

    async def _while(self) -> None:
        """A moment of any size."""
        await asyncio.sleep(moment(self.chance))

    def _text(self) -> str:
        return " ".join(self.chance.choices(["some", "words", "at", "random", "of", "any", "length"], k=8))


def live(client: AsyncClient) -> set[str]:
    """The requests that a client itself still knows of."""
    assert client._session is not None
    return set(client._session.demultiplexer._inboxes)


async def check_random_cancels(stage: Stage, count: int, kills: int) -> None:
    chance = random.Random(count)
    address = stage.served.address
    async with stage.watched() as observer, AsyncClient.connect(address) as client, AsyncClient.connect(address) as two:
        alone = (await observer.generate(request("a survivor", seed=1))).audio_data
        crowd = Crowd(address, [client, two], alone, count, chance)
        killer = asyncio.to_thread(kill_clients, address, kills, random.Random(kills))
        await asyncio.gather(killer, *(crowd.call() for _ in range(CALLERS)))
        print(dict(crowd.ends))
        for way in WAYS:
            assert crowd.ends[way] >= count / len(WAYS) * LIVE, way
        async with asyncio.timeout(PATIENCE_S):
            while live(client) or live(two):
                await asyncio.sleep(LOOK_S)


def kill_clients(address: str, count: int, chance: random.Random) -> None:
    """One client process after the other is killed, a moment after it has asked or has heard something."""
    for _ in range(count):
        read = chance.randrange(-1, PLACES)
        with a_client_process(address, ["killed at random"] * PLACES, read):
            time.sleep(moment(chance))


async def test_many_left_at_random_leave_nothing(stage: Stage) -> None:
    await check_random_cancels(stage, CANCELS, KILLS)


@pytest.mark.soak
async def test_very_many_left_at_random_leave_nothing(stage: Stage) -> None:
    await check_random_cancels(stage, MANY_CANCELS, MANY_KILLS)
