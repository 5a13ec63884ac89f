"""Garbage over real sockets: who sends it is cut off, and nobody else notices."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from max_interfaces import Attempt, AudioGenerationRequest, PipelineTask, RequestFailed
from max_interfaces.messages import (
    MAX_HEADER_BYTES,
    Described,
    Ended,
    Goodbye,
    Header,
    Inspect,
    Ping,
    Start,
    Submit,
    decode_header,
    encode_header,
)
from max_interfaces.status import FailureKind
from max_interfaces.wire import encode_payload
from max_pipelines.client import AsyncClient
from max_pipelines.registry import ServedPipeline
from max_pipelines.server.door import Door
from max_pipelines.server.events import Received
from max_pipelines.sockets import MAX_MESSAGE_BYTES
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.worker.core import WorkerCore
from tests.faults.fuzzing.corpus import Seeds
from tests.faults.fuzzing.mutator import Mutator
from tests.faults.fuzzing.raw import RawPeer
from tests.pipelines.processes import PATIENCE_S, Served, config, plugins, serving, speech

__all__ = ["plugins"]

ROOT = Path(__file__).parents[2]
VANDALISM_S = 5.0
CALLERS = 4
CHUNKS = 5
SLACK_MB = 24.0  # of memory that may come and go
DAMAGED_REQUESTS = 300


def private_mb(pid: int) -> float:
    """The memory that a process has for itself, swapped out or not."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "VmSwap")) / 1024


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A server that may complain, in lines of its own. Neither it nor a worker shows a traceback that it survives."""
    with (tmp_path / "errors").open("w+") as errors:
        with serving(config(chunks=CHUNKS, samples=100), tmp_path, errors) as served:
            yield served
        errors.seek(0)
        assert [line for line in errors if not line.startswith("maxpipe: ")] == []


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context[zmq.Socket[bytes]]() as context:
        yield context


async def gauges(served: Served) -> dict[str, int]:
    """What the server counts."""
    async with AsyncClient.connect(served.address) as client:
        return dict((await client.report()).gauges)


async def counted(served: Served, unreadable: int) -> dict[str, int]:
    """The same, once it has seen so many messages that cannot be read."""
    async with AsyncClient.connect(served.address) as client, asyncio.timeout(PATIENCE_S):
        while (found := (await client.report()).gauges)["unreadable"] < unreadable:
            await asyncio.sleep(0.02)
        return dict(found)


async def test_who_sends_garbage_twice_is_cut_off(served: Served, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with RawPeer(context, served.address, b"careless") as peer, RawPeer(context, served.address, b"careful") as other:
        peer.send([b"garbage"])
        answer = peer.receive()
        assert isinstance(answer, Described)
        assert "version" in answer.problem
        assert not peer.cuts(0.3)
        assert (await gauges(served))["cut_off"] == 0
        peer.send([b"garbage"])
        assert peer.cuts(PATIENCE_S) == 1
        found = await gauges(served)
        assert (found["unreadable"], found["cut_off"]) == (2, 1)
        peer.send([encode_header(Inspect())])  # ZeroMQ has connected again, and what it says now is right
        assert peer.receive() is not None
        peer.send([b"garbage"])  # it has been told
        assert peer.cuts(PATIENCE_S) == 1
        other.send([encode_header(Inspect())])
        assert other.receive() is not None
        assert not other.cuts()


def test_who_connects_again_before_all_was_read_is_heard(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """libzmq would else ignore the new connection for having a name that is in use, and keep all that it brings."""
    address = f"ipc://{tmp_path}/road"
    door = Door(context, address)
    door.open()
    try:
        with RawPeer(context, address, b"hasty") as peer:
            for _ in range(10):
                peer.send([encode_header(Inspect())])
            heard = [arrival(door)]
            door.cut()
            assert peer.cuts(PATIENCE_S) == 1
            for number in range(10):
                peer.send([encode_header(Ping(b"%d" % number))])
            while Ping(b"9") not in heard:
                heard.append(arrival(door))
            assert heard[-10:] == [Ping(b"%d" % number) for number in range(10)]
            assert set(heard[:-10]) <= {Inspect()}
    finally:
        door.close()


def arrival(door: Door) -> Header:
    """The next message."""
    assert door.socket.poll(round(1000 * PATIENCE_S)), "it is not heard"
    event = door.receive()
    assert isinstance(event, Received)
    assert event.peer == b"hasty"
    return event.message


async def test_a_server_serves_on_while_it_is_sent_garbage(served: Served) -> None:
    ends = Counter[int]()

    async def call(client: AsyncClient, until: float) -> None:
        while time.monotonic() < until:
            ends[(await client.generate(speech())).audio_data.size] += 1

    async def come_and_go(until: float) -> None:
        while time.monotonic() < until:
            async with AsyncClient.connect(served.address) as client:
                ends[(await client.generate(speech())).audio_data.size] += 1

    workers = served.workers
    async with AsyncClient.connect(served.address) as client:
        await asyncio.gather(*(client.generate(speech()) for _ in range(20)))
        before = private_mb(served.process.pid)
        with vandals(served.address) as vandal:
            until = time.monotonic() + VANDALISM_S
            await asyncio.gather(come_and_go(until), *(call(client, until) for _ in range(CALLERS)))
        sent, cuts = vandal
        report = await client.report()
        grown = private_mb(served.process.pid) - before
    print(f"{sent} messages, {cuts} cuts, {dict(ends)} sounds, {dict(report.gauges)}; it grew by {grown:.1f} MB")
    assert ends.keys() == {100 * CHUNKS}
    assert served.workers == workers
    assert min(sent, report.gauges["unreadable"]) > 200
    assert min(cuts, report.gauges["cut_off"]) > 20
    assert (report.gauges["requests"], report.gauges["waiting"], report.gauges["bytes"]) == (0, 0, 0)
    assert grown < SLACK_MB


@contextmanager
def vandals(address: str) -> Iterator[list[int]]:
    """A process that does harm; afterwards, how many messages it has sent and how often it was cut off."""
    found: list[int] = []
    command = [sys.executable, "-m", "tests.faults.fuzzing.vandal", address, "1"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield found
        process.stdin.close()
        found += map(int, process.stdout.readline().split())
    assert process.returncode == 0


async def test_a_message_that_is_too_large_is_refused_and_costs_nothing(
    served: Served, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    before = private_mb(served.process.pid)
    with RawPeer(context, served.address, b"boaster") as peer:
        peer.send([bytes(MAX_MESSAGE_BYTES + 1)])
        assert peer.cuts(PATIENCE_S) >= 1  # by ZeroMQ itself, before it has taken the frame
        assert private_mb(served.process.pid) < before + SLACK_MB
        assert (await gauges(served))["unreadable"] == 0
    with RawPeer(context, served.address, b"windbag") as peer:
        peer.send([bytes(MAX_HEADER_BYTES + 1)])
        answer = peer.receive()
        assert isinstance(answer, Described)
        assert f"a header of {MAX_HEADER_BYTES + 1} bytes" in answer.problem
    assert (await counted(served, 1))["cut_off"] == 0
    assert private_mb(served.process.pid) < before + SLACK_MB


@pytest.mark.usefixtures("plugins")
async def test_a_log_that_cannot_be_written_ends_nobody(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """A full disk, or whoever read it has gone. All that is said while serving is said here: of strangers, of ends,
    and of a request that fails."""
    with open("/dev/full", "wb") as full, serving(config("paced"), tmp_path, full) as served:
        before = served.workers
        with RawPeer(context, served.address, b"stranger") as peer:
            peer.send([b"garbage"])
            assert isinstance(peer.receive(), Described)
        async with AsyncClient.connect(served.address) as client:
            with pytest.raises(RequestFailed, match="ZeroDivisionError: in the pipeline"):
                await client.generate(speech("fail"))
            assert served.workers == before
            os.kill(before[0], signal.SIGKILL)
            assert (await anext(client.stream(speech()))).metadata.chunk_id == 0
        assert served.process.poll() is None


async def test_frames_that_are_no_bytes_are_counted_as_well(
    served: Served, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    submit = encode_header(Submit("r", "voice", 30.0))
    with RawPeer(context, served.address, b"splitter") as peer:
        peer.send([submit, *[b""] * 200_000])
        assert peer.cuts(PATIENCE_S) == 1
        peer.send([submit, *map(bytes, encode_payload([speech(key="r")]))])  # the next message begins where it should
        assert peer.receive() is not None
    found = await gauges(served)
    assert (found["unreadable"], found["cut_off"]) == (1, 1)


async def test_a_damaged_request_fails_alone(served: Served, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """The dispatcher does not read payloads: the worker refuses them, one by one, and works on."""
    workers = served.workers
    payloads = Mutator(Seeds.load("payloads").all, random.Random(5))
    live = {f"r{number}" for number in range(DAMAGED_REQUESTS)}
    ends = Counter[str]()
    with RawPeer(context, served.address, b"sloppy") as peer:
        for key in sorted(live):
            peer.send([encode_header(Submit(key, "voice", 30.0)), *payloads.message()])
        while live:
            answer = peer.receive()
            assert isinstance(answer, Ended), answer  # none of them announced the id that it bears
            assert answer.kind in (FailureKind.INVALID_REQUEST, FailureKind.OVERLOADED)
            live.remove(answer.request_id)
            ends[answer.message[:25]] += 1
        assert peer.receive(0.2) is None
        peer.send([encode_header(Goodbye())])
    print(dict(ends))
    assert len(ends) > 5
    assert served.workers == workers
    found = await gauges(served)
    assert (found["unreadable"], found["requests"], found["bytes"]) == (0, 0, 0)


def test_an_error_that_no_message_can_carry_is_told_nevertheless() -> None:
    """A pipeline may name a file whose name is no UTF-8. The worker must not die of it."""

    class Odd(TrivialPipeline):
        def admit(self, attempt: Attempt[AudioGenerationRequest]) -> None:
            raise ValueError(b"no such voice: caf\xe9".decode(errors="surrogateescape"))

    served = ServedPipeline(Odd(TrivialOptions()), AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 8)
    payload = encode_payload([speech(key="a")])
    ((_, ended, _),) = WorkerCore(served, "voice").take(Start("a", b"c1", 1, 7, 30.0), payload)
    assert isinstance(ended, Ended)
    assert ended.message == "no such voice: caf?"
    assert decode_header(encode_header(ended)) == ended
