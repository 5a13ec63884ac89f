"""SIGTERM at any moment: each request ends once, the server ends within its limit, and nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import pytest
import zmq

from max_interfaces import FailureKind, NotServing, RequestFailed, StartFailed
from max_interfaces.messages import Delivery, Ended, Header, Inspect, Report, Submit, decode_header
from max_interfaces.wire import Frame, encode_payload
from max_pipelines.client import AsyncClient
from max_pipelines.client.demultiplexer import Demultiplexer
from max_pipelines.config import Config, Limits
from max_pipelines.sockets import open_socket, receive, send
from tests.faults.listening import busiest, workers_of
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, Served, config, install, serving, speech, write

WORKERS, PLACES = 2, 8  # and places of each
CALLERS, EARLY, LATE = 24, 4, 12  # requests: more than there are places for; by hand before and after the others
PATIENCE_MS = int(1000 * PATIENCE_S)
HEARD = 50  # chunks, before something is done to the server
CHUNKS, ENDLESS = 50, 100_000  # of a request
SHUT_DOWN = FailureKind.SHUTTING_DOWN.value
DONE = "end_of_sequence"
ROUNDS = 50  # in the soak
DRAIN_S = 0.5  # where nothing would end by itself
STARTS, START_S = 30, 1.0  # servers that are ended while they start, and how long that takes

SOURCE = '''
import os, threading
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_interfaces import AudioGenerationRequest, PipelineTask

class Steady(TrivialPipeline):
    """A chunk each 10 ms."""

    def execute(self, active):
        threading.Event().wait(0.01)
        return super().execute(active)

def steady(config):
    options = config.pipeline.options
    pipeline = Steady(TrivialOptions(chunks=options["chunks"], samples=10))
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, options["places"])

def loading(config):
    """Loads for ever, and says that it does."""
    with open(os.environ["MAXPIPE_LOADING"], "w") as begun:
        begun.write("!")
    threading.Event().wait()
'''
Strike: TypeAlias = Callable[[Served, AsyncClient], Awaitable[None]]
ENTRY_POINTS = "[maxpipe.pipelines]\nsteady = shutdown_plugins:steady\nloading = shutdown_plugins:loading\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for a server, which may serve the pipelines above."""
    install(tmp_path / "site", "shutdown_plugins", SOURCE, ENTRY_POINTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    folder = tmp_path / "s"
    folder.mkdir()
    return folder


def steady(chunks: int, **limits: float) -> Config:
    """A server whose requests have so many chunks, one each 10 ms."""
    bounds = Limits(lease_s=3600, **limits)  # type: ignore[arg-type]
    return config("steady", count=WORKERS, limits=bounds, chunks=chunks, places=PLACES)


def still_there(folder: Path) -> list[str]:
    """What a server in this folder has left: files and processes."""
    found = [path.name for path in folder.iterdir() if path.name != "config.yaml"]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(folder) in command:
            found.append(command)
    return found


# -- the load --------------------------------------------------------------------------------------------------------


class Tally:
    """Requests sent by hand, so that each terminal message that comes for one is counted, also a second one."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = open_socket(self._context, zmq.DEALER)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._socket.connect(address)
        self._ends: dict[str, list[str]] = {}

    def submit(self, count: int) -> None:
        """Send requests, and return when the server has them: it answers what is asked after them."""
        for _ in range(count):
            key = f"by-hand-{len(self._ends)}"
            self._ends[key] = []
            send(self._socket, Submit(key, "voice", PATIENCE_S), encode_payload([speech(key=key)]))
        send(self._socket, Inspect())
        while not isinstance(self._next(), Report):
            pass

    def ends(self) -> list[list[str]]:
        """How each ended, as often as it did, up to the end of the connection."""
        assert self._monitor.poll(PATIENCE_MS)
        while self._socket.poll(0):
            self._next()
        return list(self._ends.values())

    def close(self) -> None:
        """End it."""
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._socket.close(linger=0)
        self._context.term()

    def _next(self) -> Header:
        assert self._socket.poll(PATIENCE_MS)
        frames = receive(self._socket)
        assert frames
        message = decode_header(frames[0])
        for key, end in ends_in(message):
            self._ends[key].append(end)
        return message


def ends_in(message: Header) -> Iterator[tuple[str, str]]:
    """The requests that a message ends, and how."""
    if isinstance(message, Delivery):
        for index, head in enumerate(message.heads):
            if head.status.is_done and index not in message.skip:
                yield head.request_id, head.status.value
    if isinstance(message, Ended):
        yield message.request_id, message.kind.value if message.kind else message.status.value


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """How often each request of the clients in this process is ended by a message, also by those that they drop."""
    raw, take = Counter[str](), Demultiplexer.take

    def counted(demultiplexer: Demultiplexer, message: Header, payload: Sequence[Frame]) -> None:
        raw.update(key for key, _ in ends_in(message))
        take(demultiplexer, message, payload)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Demultiplexer, "take", counted)
        yield raw


@dataclass
class Callers:
    """Many requests of one client."""

    client: AsyncClient
    chunks: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self) -> tuple[str, int]:
        """One request: how it ended, and after how many chunks."""
        heard = 0
        try:
            async for output in self.client.stream(speech()):
                assert output.metadata.chunk_id == heard
                heard += 1
                self.chunks += 1
                self.news.set()
        except RequestFailed as problem:
            return problem.failure.kind.value, heard
        return output.final_status.value, heard

    async def until(self, chunks: int) -> None:
        """Return when so many chunks have arrived in all."""
        async with asyncio.timeout(PATIENCE_S):
            while self.chunks < chunks:
                self.news.clear()
                await self.news.wait()


@dataclass
class Load:
    """What a server is busy with."""

    client: AsyncClient
    calls: Sequence[asyncio.Future[tuple[str, int]]]
    raw: Counter[str]
    tally: Tally

    async def outcomes(self) -> list[tuple[str, int]]:
        """How each call ended, and after how many chunks. Nobody may wait for ever, or end twice, by hand or not."""
        async with asyncio.timeout(PATIENCE_S):
            outcomes = list(await asyncio.gather(*self.calls))
        by_hand = await asyncio.to_thread(self.tally.ends)
        assert [len(ends) for ends in by_hand] == [1] * (EARLY + LATE), by_hand
        assert list(self.raw.values()) == [1] * CALLERS, self.raw
        print(Counter(end for end, _ in outcomes), Counter(end for (end,) in by_hand))
        return outcomes


@asynccontextmanager
async def loaded(served: Served) -> AsyncIterator[Load]:
    """A server with more requests than it has places for, half-way through the first of them."""
    async with AsyncExitStack() as stack:
        tally = Tally(served.address)
        stack.callback(tally.close)
        raw = stack.enter_context(counting())
        client = await stack.enter_async_context(AsyncClient.connect(served.address))
        await all_work(client)
        callers = Callers(client)
        await asyncio.to_thread(tally.submit, EARLY)
        calls = [asyncio.ensure_future(callers.call()) for _ in range(CALLERS)]
        await callers.until(1)
        await asyncio.to_thread(tally.submit, LATE)
        await callers.until(HEARD)
        yield Load(client, calls, raw, tally)


async def all_work(client: AsyncClient) -> None:
    """Wait until every worker takes requests."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(worker.ready for worker in (await client.report()).workers) < WORKERS:
            await asyncio.sleep(0.02)


async def ends_well(served: Served, folder: Path) -> float:
    """The server ends with 0 and leaves nothing. How long that took, in seconds."""
    begun = time.monotonic()
    assert await asyncio.to_thread(served.wait) == 0
    took = time.monotonic() - begun
    assert still_there(folder) == []
    return took


# -- in the midst of work --------------------------------------------------------------------------------------------


async def check_what_has_begun_ends(folder: Path, strike: Strike) -> float:
    """SIGTERM, and before it perhaps something worse: what was begun is heard to its end, the rest is sent away."""
    with serving(steady(CHUNKS, drain_s=PATIENCE_S), folder) as served:
        async with loaded(served) as load:
            await strike(served, load.client)
            served.signal(signal.SIGTERM)
            took = await ends_well(served, folder)
            assert set(await load.outcomes()) <= {(DONE, CHUNKS), (SHUT_DOWN, 0)}
    return took


async def check_what_does_not_end_is_ended(folder: Path, strike: Strike) -> float:
    """The same, where nothing would ever end: all is ended when the time to drain is over."""
    with serving(steady(ENDLESS, drain_s=DRAIN_S), folder) as served:
        async with loaded(served) as load:
            await strike(served, load.client)
            served.signal(signal.SIGTERM)
            took = await ends_well(served, folder)
            assert {end for end, _ in await load.outcomes()} == {SHUT_DOWN}
    return took


async def nothing(served: Served, client: AsyncClient) -> None:
    """No harm is done."""


async def kill(served: Served, client: AsyncClient) -> None:
    """A worker dies in the midst of its work."""
    os.kill(workers_of(served.process.pid)[await busiest(client)], signal.SIGKILL)


async def kill_and_see(served: Served, client: AsyncClient) -> None:
    """The same, and the server knows of it. What the worker had waits for a place: the other one has none."""
    await kill(served, client)
    async with asyncio.timeout(PATIENCE_S):
        while not (await client.report()).gauges["resumed"]:
            pass


@pytest.mark.parametrize("strike", [nothing, kill, kill_and_see])
async def test_what_has_begun_is_heard_to_its_end(folder: Path, strike: Strike) -> None:
    print(f"ended in {await check_what_has_begun_ends(folder, strike):.2f} s")


async def test_what_does_not_end_by_itself_is_ended(folder: Path) -> None:
    took = await check_what_does_not_end_is_ended(folder, nothing)
    print(f"ended {took - DRAIN_S:.2f} s after the {DRAIN_S} s to drain")


@pytest.mark.soak
async def test_fifty_times_under_load(folder: Path) -> None:
    """In every other round it is the limit that ends it; printed is the time beyond it."""
    ended, cut = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for number in range(ROUNDS):
        room = folder / str(number)
        room.mkdir()
        strike = (nothing, kill, kill_and_see)[number // 2 % 3]
        if number % 2:
            cut[strike.__name__].append(await check_what_does_not_end_is_ended(room, strike) - DRAIN_S)
        else:
            ended[strike.__name__].append(await check_what_has_begun_ends(room, strike))
    for name, took in ended.items():
        print(f"{name}, all ended: {len(took)} times, {min(took):.2f} to {max(took):.2f} s")
    for name, beyond in cut.items():
        print(f"{name}, cut off: {len(beyond)} times, {min(beyond):.2f} to {max(beyond):.2f} s beyond the limit")


async def test_a_second_sigterm_ends_all_at_once(folder: Path) -> None:
    with serving(steady(ENDLESS, drain_s=3600, retire_s=3600), folder) as served:
        async with loaded(served) as load:
            served.signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):  # until it drains: those that wait are sent away
                await asyncio.wait(load.calls, return_when=asyncio.FIRST_COMPLETED)
            served.signal(signal.SIGTERM)
            print(f"ended in {await ends_well(served, folder):.2f} s")
            assert {end for end, _ in await load.outcomes()} == {SHUT_DOWN}


# -- at the start ----------------------------------------------------------------------------------------------------


@contextmanager
def starting(config: Config, folder: Path) -> Iterator[Served]:
    """`maxpipe serve`, which has said that it loads."""
    address = f"ipc://{folder}/road"
    command = [*MAXPIPE, "serve", str(write(config, folder)), "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert "loading" in process.stdout.readline()
            yield Served(process, address)
        finally:
            process.kill()


@contextmanager
def a_word_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Call it to wait until a worker loads."""
    path = folder.parent / "loading"
    os.mkfifo(path)
    monkeypatch.setenv("MAXPIPE_LOADING", str(path))
    news = os.open(path, os.O_RDWR)

    def wait() -> None:
        assert select.select([news], [], [], PATIENCE_S)[0]

    try:
        yield wait
    finally:
        os.close(news)


async def test_sigterm_while_the_workers_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that waits for them is told so, and what was asked for already is sent away."""
    with a_word_from(folder, monkeypatch) as until_it_loads, starting(config("loading"), folder) as served:
        await asyncio.to_thread(until_it_loads)
        tally = Tally(served.address)
        tally.submit(LATE)
        waiting = asyncio.ensure_future(AsyncClient.connect(served.address).__aenter__())
        await asyncio.sleep(0)
        served.signal(signal.SIGTERM)
        print(f"ended in {await ends_well(served, folder):.2f} s")
        with pytest.raises((StartFailed, NotServing)):
            await waiting
        assert tally.ends() == [[SHUT_DOWN]] * LATE
        tally.close()


@pytest.mark.soak
def test_sigterm_at_any_moment_of_the_start(folder: Path) -> None:
    chance = random.Random(1)
    codes = Counter[int]()
    for number in range(STARTS):
        room = folder / str(number)
        room.mkdir()
        with starting(steady(CHUNKS), room) as served:
            time.sleep(START_S * chance.random() ** 3)
            served.signal(signal.SIGTERM)
            codes[served.wait()] += 1
            assert still_there(room) == []
    print(f"exit codes: {dict(codes)}")
    assert codes.keys() <= {0, 128 + signal.SIGTERM}  # the latter before it has begun to serve
