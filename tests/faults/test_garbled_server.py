"""A server that talks garbage, over real sockets: its clients and workers say so, and nothing else comes of it."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    PipelineTask,
    RequestFailed,
    WireError,
)
from max_interfaces.messages import Delivery, Ready, Unfit
from max_pipelines.client import AsyncClient
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.worker.core import WorkerCore
from max_pipelines.worker.loop import UNFIT, WorkerLoop
from max_pipelines.worker.wire import Wire
from tests.faults.fuzzing.corpus import Seeds
from tests.faults.fuzzing.mutator import Mutator
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, config, speech, write
from tests.pipelines.test_client import DONE, PlayedServer, head, played
from tests.pipelines.test_worker_loop import Played

__all__ = ["played"]

ROUNDS = 300  # requests of a client, which is sent garbage before the answer to each
MESSAGES = 600  # to a worker
PATIENCE_MS = round(1000 * PATIENCE_S)


def mutator(seed: int) -> Mutator:
    """Damaged headers, and now and then a whole one."""
    return Mutator(Seeds.load("headers").all, random.Random(seed), 1)


async def test_a_client_ends_what_it_cannot_follow_and_goes_on(played: tuple[PlayedServer, AsyncClient]) -> None:
    server, client = played
    garbage, ends, wrong = mutator(1), Counter[str](), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: wrong.append(context))
    for number in range(ROUNDS):
        call = asyncio.ensure_future(client.generate(speech(key=f"request {number}")))
        submit = await server.submitted()
        first, *rest = garbage.message() or [b""]
        server.say(first, payload=b"".join(rest))
        answer = Delivery(server.peer, (head(submit.request_id, submit.serial, 0, DONE),))
        server.say(answer, AudioGenerationOutput(GenerationStatus.END_OF_SEQUENCE, 7))
        try:
            async with asyncio.timeout(PATIENCE_S):
                ends[(await call).final_status.value] += 1
        except RequestFailed as problem:
            ends[problem.failure.kind.value] += 1
    print(dict(ends))
    assert not wrong, wrong[0]
    assert ends.keys() == {"end_of_sequence", "connection_lost"}
    assert min(ends.values()) > ROUNDS / 20


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context[zmq.Socket[bytes]]() as context:
        yield context


def test_a_worker_refuses_what_it_cannot_read_in_one_way(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """By a WireError, which ends its loop; here it is begun again."""
    server, poller = Played(context, f"ipc://{tmp_path}/played"), zmq.Poller()
    wire, garbage, ends = Wire(context, server.dial, poller), mutator(2), Counter[str]()
    try:
        worker = begin(wire, poller, server)
        for _ in range(MESSAGES):
            first, *rest = garbage.message() or [b""]
            server.say(first, rest)
            assert poller.poll(PATIENCE_MS)
            try:
                worker.turn()
            except WireError:
                ends["refused"] += 1
                worker = begin(wire, poller, server)
            else:
                ends["taken"] += 1
    finally:
        wire.close()
        server.close()
    print(dict(ends))
    assert min(ends["refused"], ends["taken"]) > MESSAGES / 20


def begin(wire: Wire, poller: zmq.Poller, server: Played) -> WorkerLoop:
    """A worker that is at work."""
    served = ServedPipeline(
        TrivialPipeline(TrivialOptions(chunks=100_000, samples=10)),
        AudioGenerationRequest,
        PipelineTask.AUDIO_GENERATION,
    )
    worker = WorkerLoop([wire], poller, WorkerCore(served, "voice", "worker-0.1"))
    worker.begin()
    while not isinstance(server.hear(), Ready):
        pass
    server.start("a")
    assert poller.poll(PATIENCE_MS)
    worker.turn()
    return worker


def test_a_worker_process_that_cannot_read_its_server_ends_in_order(
    tmp_path: Path, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    """It says why, to the server, and shows no traceback."""
    server = Played(context, f"ipc://{tmp_path}/played")
    command = [*MAXPIPE, "worker", str(write(config(), tmp_path)), "--connect", f"ipc://{tmp_path}/played"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not isinstance(server.hear(), Ready):
                pass
            server.start("a")
            server.say(b"garbage")
            while not isinstance(unfit := server.hear(), Unfit):
                pass
            _, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
            server.close()
    assert "cannot read its server" in unfit.message
    assert process.returncode == UNFIT
    assert "Traceback" not in errors
