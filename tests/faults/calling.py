"""Callers with a process of their own, which tell what became of their requests.

Whoever floods a server from here takes time from it, and whoever shares a process with a flood measures its lag.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

import msgspec

from max_interfaces import FailureKind, RequestFailed
from max_pipelines.client import AsyncClient
from tests.pipelines.processes import PATIENCE_S, speech

CLIENTS = 4
LEAST_NICE = 19
SOON_S = 0.05  # to be told, before it begins


class Saturate(msgspec.Struct, frozen=True, tag=True):
    """So many callers, each with one request after the other."""

    begin: float
    seconds: float
    callers: int


class Flood(msgspec.Struct, frozen=True, tag=True):
    """So many requests a second, whatever becomes of them."""

    begin: float
    seconds: float
    rate: float


Load = Saturate | Flood


def soon() -> float:
    """When a load may begin, on a clock that all processes have in common."""
    return time.monotonic() + SOON_S


class Count(msgspec.Struct):
    """What became of requests."""

    completed: list[float] = msgspec.field(default_factory=list)  # when
    heard: list[float] = msgspec.field(default_factory=list)  # when each output came
    refusals: list[float] = msgspec.field(default_factory=list)  # how long each took, in seconds

    async def call(self, client: AsyncClient, model: str) -> None:
        """One request, which must be heard whole or be refused as overloaded."""
        begun = time.monotonic()
        outputs = []
        try:
            async for output in client.stream(speech(model=model)):
                outputs.append(output)
                self.heard.append(time.monotonic())
        except RequestFailed as problem:
            failure = problem.failure
            self.refusals.append(time.monotonic() - begun)
        else:
            self.completed.append(time.monotonic())
            assert outputs[-1].is_done
            assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
            return
        assert failure.kind is FailureKind.OVERLOADED, failure
        assert failure.retry_after


class Caller:
    """The process, by its pipes: a load goes in as a line, what became of it comes out as a line."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.end()  # of its start

    def begin(self, load: Load) -> None:
        """Make this load."""
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode(load) + b"\n")
        self._process.stdin.flush()

    def end(self) -> Count:
        """What became of it, once each of its requests has its answer."""
        assert self._process.stdout
        return msgspec.json.decode(self._process.stdout.readline(), type=Count)


@contextmanager
def caller(address: str, model: str, nice: int = 0) -> Iterator[Caller]:
    """One that is ready; as nice as it is to be."""
    command = [sys.executable, "-m", "tests.faults.calling", address, model, str(nice)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Caller(process)


async def main(address: str, model: str, nice: int) -> None:
    """Make one load after the other, until the input ends."""
    os.nice(nice)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(AsyncClient.connect(address)) for _ in range(CLIENTS)]
        gc.freeze()
        tell(Count())
        while line := await asyncio.to_thread(sys.stdin.readline):
            load = msgspec.json.decode(line, type=Load)
            await asyncio.sleep(load.begin - time.monotonic())
            async with asyncio.timeout(load.seconds + PATIENCE_S):
                tell(await (flood if isinstance(load, Flood) else saturate)(clients, model, load))


def tell(count: Count) -> None:
    print(msgspec.json.encode(count).decode(), flush=True)


async def saturate(clients: Sequence[AsyncClient], model: str, load: Saturate) -> Count:
    """What becomes of callers who wait for their answers."""
    count = Count()

    async def one_after_the_other(client: AsyncClient) -> None:
        while time.monotonic() < load.begin + load.seconds:
            await count.call(client, model)

    await asyncio.gather(*(one_after_the_other(clients[number % CLIENTS]) for number in range(load.callers)))
    return count


async def flood(clients: Sequence[AsyncClient], model: str, load: Flood) -> Count:
    """What becomes of requests for which nobody waits before sending the next."""
    count, sent = Count(), 0
    async with asyncio.TaskGroup() as calls:
        while (now := time.monotonic()) < load.begin + load.seconds:
            while sent < (now - load.begin) * load.rate:
                calls.create_task(count.call(clients[sent % CLIENTS], model))
                sent += 1
            await asyncio.sleep(0.001)
    assert len(count.completed) + len(count.refusals) == sent
    return count


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
