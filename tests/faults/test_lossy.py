"""Messages are lost, repeated and late, and for two seconds nothing gets through: each request still ends, once."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import zmq

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    FailureKind,
    RequestFailed,
    RequestID,
    RequestOptions,
    SamplingParams,
)
from max_interfaces.messages import ChunkHead, Ended, Report
from max_interfaces.wire import AnyOutput
from max_pipelines.client import AsyncClient
from max_pipelines.client.demultiplexer import CHECK_S, GRACE_S
from max_pipelines.client.inbox import Inbox
from tests.faults.proxy import BadNetwork, Losses
from tests.faults.simulation.pipeline import TOKEN_SAMPLES, Sound, samples
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, config, install, serving, write

ROOT = Path(__file__).parents[2]
SOURCE = """
import sys, threading
from max_interfaces import AudioGenerationRequest, PipelineTask
from max_pipelines.registry import ServedPipeline
from tests.faults.simulation.pipeline import RATE, SoundAdapters, SoundPipeline

class Paced(SoundPipeline):  # a token each 10 ms, most of them noted
    def execute(self, active):
        threading.Event().wait(0.01)
        return super().execute(active)

def sounds(config):
    if "--supervised" in sys.argv:  # the server's own one loads for ever: all the work is done far away
        threading.Event().wait()
    pipeline = Paced(SoundAdapters(first=True))
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 8, RATE)
"""
WORKERS, CLIENTS = 2, 3
PARTITION_S = 2.0
SLACK_S = 3.0  # for a machine that is busy
FOREVER_S = 60.0
# The share of requests heard to their end, at least, where so much is lost. One lost output is the end of a request:
# where a tenth is lost 30 to 45 of 600 were seen, so what is asked for lies four deviations below.
HEARD = {0.01: 0.5, 0.03: 0.25, 0.1: 0.02}


@dataclass(frozen=True)
class Trial:
    """So many requests within so many seconds, over such a network, cut off at these moments."""

    requests: int
    seconds: float
    losses: Losses
    cuts: tuple[float, ...]
    deadline_s: float = 8.0
    seed: int = 1


@dataclass
class Ends:
    """What the clients got: how each request ended, and whatever should not have come."""

    kinds: Counter[str] = field(default_factory=Counter)
    terminals: dict[Inbox, int] = field(default_factory=lambda: defaultdict(int))
    wrong: list[str] = field(default_factory=list)

    def put(self, inbox: Inbox, item: AnyOutput | Ended, head: ChunkHead | None) -> None:
        """Something has come for a request."""
        if self.terminals[inbox]:
            self.wrong.append(f"{item} came after the end")
        if isinstance(item, Ended) or item.is_done:
            self.terminals[inbox] += 1
        elif head is None or head.seq != inbox.next_seq:
            self.wrong.append(f"{head} came where number {inbox.next_seq} was due")


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """Sees all that any client of this process is given for its requests."""
    ends, put = Ends(), Inbox.put

    def watched(inbox: Inbox, item: AnyOutput | Ended, head: ChunkHead | None = None) -> None:
        ends.put(inbox, item, head)
        put(inbox, item, head)

    monkeypatch.setattr(Inbox, "put", watched)
    return ends


@pytest.fixture
def sounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pipeline.kind: sounds`, for every process that is started from here on."""
    install(tmp_path / "site", "sound_plugin", SOURCE, "[maxpipe.pipelines]\nsounds = sound_plugin:sounds\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")


@contextmanager
def far_away(front: str, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers that were started by hand, on the other side of the network."""
    command = [*MAXPIPE, "worker", str(write(config("sounds"), folder)), "--connect", front, "--name"]
    processes = [subprocess.Popen([*command, f"far-{number}"]) for number in range(WORKERS)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def ask(client: AsyncClient, number: int, trial: Trial, ends: Ends) -> None:
    """One request, to its end."""
    chance = random.Random(trial.seed * 10_000 + number)
    await asyncio.sleep(chance.random() * trial.seconds)
    sound = Sound(chance.randrange(1, 100))
    params = SamplingParams(seed=number)
    request = AudioGenerationRequest(RequestID(f"r{number}"), "voice", sound.text, sampling_params=params)
    heard: list[AudioGenerationOutput] = []
    begun = time.monotonic()
    try:
        async with asyncio.timeout(FOREVER_S):
            async for output in client.stream(request, RequestOptions(deadline_s=trial.deadline_s)):
                heard.append(output)
        kind = heard[-1].final_status.value
    except RequestFailed as problem:
        kind = problem.failure.kind.value
    ends.kinds[kind] += 1
    took = time.monotonic() - begun
    if took > trial.deadline_s + GRACE_S + CHECK_S + SLACK_S:
        ends.wrong.append(f"request {number} took {took:.1f} s to end with {kind}")
    right = samples(number, 0, sound.length * TOKEN_SAMPLES)
    whole = np.concatenate([output.audio_data for output in heard]) if heard else right[:0]
    if not np.array_equal(whole, right if kind == "end_of_sequence" else right[: whole.size]):
        ends.wrong.append(f"request {number} of {right.size} samples got others: {whole.size} of them, and {kind}")


async def run(trial: Trial, folder: Path, ends: Ends) -> Counter[str]:
    """All of a trial; what became of the messages."""
    front, back = f"ipc://{folder}/front", f"ipc://{folder}/road"
    with (
        BadNetwork(front, back, trial.losses, trial.seed) as network,
        far_away(front, folder) as workers,
        serving(config("sounds"), folder) as served,
    ):
        assert served.address == back
        async with AsyncExitStack() as stack:
            entering = [stack.enter_async_context(AsyncClient.connect(front)) for _ in range(CLIENTS)]
            clients = [await client for client in entering]
            asking = [ask(clients[n % CLIENTS], n, trial, ends) for n in range(trial.requests)]
            await asyncio.gather(*asking, cut(network, trial.cuts))
            report = await settled(served.address)
        print(f"{dict(ends.kinds)}; messages {dict(network.fates)}; {dict(report.gauges)}")
        assert [worker.poll() for worker in workers] == [None] * WORKERS, "a worker has broken"
        return network.fates


async def cut(network: BadNetwork, moments: tuple[float, ...]) -> None:
    begun = time.monotonic()
    for moment in moments:
        await asyncio.sleep(begun + moment - time.monotonic())
        network.cut(PARTITION_S)


async def settled(address: str) -> Report:
    """How the server is once it has nothing left to do: asked directly, where nothing is lost."""
    async with AsyncClient.connect(address) as client, asyncio.timeout(PATIENCE_S):
        while True:
            report = await client.report()
            far = [worker for worker in report.workers if worker.ready]
            left = [report.gauges[name] for name in ("requests", "waiting", "bytes", "clients")]
            if not any(left) and len(far) == WORKERS and not any(worker.running for worker in report.workers):
                return report
            await asyncio.sleep(0.05)


def check(trial: Trial, ends: Ends) -> None:
    """Each request has ended once; what may go wrong on such a network is all that went wrong."""
    assert not ends.wrong, ends.wrong
    assert set(ends.terminals.values()) == {1}
    assert len(ends.terminals) == ends.kinds.total() == trial.requests
    allowed = {FailureKind.CONNECTION_LOST, FailureKind.DEADLINE_EXCEEDED}
    assert ends.kinds.keys() <= {"end_of_sequence", *(kind.value for kind in allowed)}


@pytest.mark.usefixtures("sounds")
async def test_each_request_ends_once_whatever_is_lost(tmp_path: Path, ends: Ends) -> None:
    trial = Trial(60, 4.0, Losses(drop=0.01, repeat=0.01, delay=0.01), (1.5,))
    fates = await run(trial, tmp_path, ends)
    check(trial, ends)
    assert min(fates[fate] for fate in ("dropped", "repeated", "delayed", "cut off")) > 0
    assert ends.kinds["end_of_sequence"] > trial.requests / 4


@pytest.mark.usefixtures("sounds")
async def test_where_nothing_is_lost_each_request_is_heard_to_its_end(tmp_path: Path, ends: Ends) -> None:
    """What is repeated or comes at once is no harm, so it is the network that the others fail by."""
    trial = Trial(30, 1.0, Losses(repeat=0.1), ())
    await run(trial, tmp_path, ends)
    check(trial, ends)
    assert ends.kinds == {"end_of_sequence": trial.requests}


async def test_a_client_is_let_in_though_its_first_words_are_lost(tmp_path: Path) -> None:
    front = f"ipc://{tmp_path}/front"
    with serving(config(), tmp_path) as served, BadNetwork(front, served.address, Losses()) as network:
        network.cut(0.7)
        async with AsyncClient.connect(front) as client:
            assert network.fates["cut off"]
            assert client.model().name == "voice"


@pytest.mark.soak
@pytest.mark.usefixtures("sounds")
@pytest.mark.parametrize("share", HEARD)
@pytest.mark.parametrize("seed", range(3))
async def test_many_requests_end_once_each(tmp_path: Path, ends: Ends, share: float, seed: int) -> None:
    losses = Losses(drop=share, repeat=share, delay=share, late_s=1.5)
    trial = Trial(600, 40.0, losses, (5.0, 12.0, 19.0, 30.0), seed=seed)
    fates = await run(trial, tmp_path, ends)
    check(trial, ends)
    assert min(fates[fate] for fate in ("dropped", "repeated", "delayed", "cut off")) > 0
    assert ends.kinds["end_of_sequence"] > trial.requests * HEARD[share]


# -- the network itself --------------------------------------------------------------------------------------------


@contextmanager
def ends_of(losses: Losses, folder: Path) -> Iterator[tuple[BadNetwork, zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """A network, a peer named `peer` on the one side, and a ROUTER on the other."""
    front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
    with (
        BadNetwork(front, back, losses) as network,
        zmq.Context[zmq.Socket[bytes]]() as context,
        context.socket(zmq.ROUTER) as server,
        context.socket(zmq.DEALER) as peer,
    ):
        peer.setsockopt(zmq.ROUTING_ID, b"peer")
        for each in (peer, server):
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, round(1000 * PATIENCE_S))
        server.bind(back)
        peer.connect(front)
        yield network, peer, server


def test_messages_pass_whole_and_in_order_in_both_directions(tmp_path: Path) -> None:
    with ends_of(Losses(), tmp_path) as (network, peer, server):
        for number in range(100):
            peer.send_multipart([b"%d" % number, b"", b"payload"])
        for number in range(100):
            assert server.recv_multipart() == [b"peer", b"%d" % number, b"", b"payload"]
            server.send_multipart([b"peer", b"%d" % number, b"back"])
        assert [peer.recv_multipart() for _ in range(100)] == [[b"%d" % number, b"back"] for number in range(100)]
        assert network.fates == {"passed": 200}


def test_what_is_delayed_is_overtaken_and_what_is_repeated_comes_twice(tmp_path: Path) -> None:
    with ends_of(Losses(repeat=0.3, delay=0.3, late_s=0.1), tmp_path) as (network, peer, server):
        for number in range(100):
            peer.send(b"%d" % number)
        found: list[int] = []
        while len(set(found)) < 100 or len(found) < 100 + network.fates["repeated"]:
            found.append(int(server.recv_multipart()[1]))
        assert found != sorted(found)
        assert Counter(Counter(found).values()) == {1: 100 - network.fates["repeated"], 2: network.fates["repeated"]}
        assert network.fates["delayed"] > 10


def test_what_is_dropped_or_cut_off_never_comes(tmp_path: Path) -> None:
    with ends_of(Losses(drop=0.5), tmp_path) as (network, peer, server):
        for number in range(100):
            peer.send(b"%d" % number)
        network.losses = Losses()
        peer.send(b"last")
        found = [server.recv_multipart()[1]]
        while found[-1] != b"last":
            found.append(server.recv_multipart()[1])
        assert len(found) == 101 - network.fates["dropped"]
        network.cut(0.2)
        peer.send(b"into the dark")
        peer.setsockopt(zmq.SNDTIMEO, 0)
        while network.fates["cut off"] < 1:
            time.sleep(0.01)
        time.sleep(0.25)
        peer.send(b"light")
        assert server.recv_multipart()[1] == b"light"
