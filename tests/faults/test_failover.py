"""A worker dies, or hangs, in the middle of a sentence: nobody who listens can tell."""

from __future__ import annotations

import asyncio
import signal

import msgspec
import pytest

from max_interfaces import FailureKind, RequestFailed
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, PipelineConfig
from tests.faults.cursed import Curses, curses
from tests.faults.listening import Audience, Heard, busiest, standby_is_ready, strike, workers_of
from tests.pipelines.processes import servers

__all__ = ["curses"]

LISTENERS = 32


@pytest.fixture(scope="module")
def standing_by(tiny_voice: Config) -> Config:
    """One worker that works, and one that stands by."""
    workers = msgspec.structs.replace(tiny_voice.workers, count=1, standby=1)
    engine = msgspec.structs.replace(tiny_voice.engine, max_batch=LISTENERS)
    return msgspec.structs.replace(tiny_voice, workers=workers, engine=engine)


@pytest.fixture(scope="module")
def cursable(standing_by: Config) -> Config:
    """The same, with a pipeline that does harm when told to."""
    return msgspec.structs.replace(standing_by, pipeline=PipelineConfig(kind="cursed"))


@pytest.fixture(scope="module")
def undisturbed(standing_by: Config) -> list[Heard]:
    """What all listeners hear when nothing happens."""

    async def listen() -> list[Heard]:
        async with AsyncClient.embedded(standing_by) as client:
            return await Audience(client, "tiny").all(LISTENERS)

    return asyncio.run(listen())


def chunks_in(heard: list[Heard]) -> int:
    return sum(len(one.arrivals) for one in heard)


async def check_killed(config: Config, undisturbed: list[Heard], places: list[int]) -> None:
    """Kill the worker after each of these numbers of chunks: everybody hears what they heard before."""
    async with AsyncClient.embedded(config) as client:
        (server,) = servers()
        await standby_is_ready(client)
        audience = Audience(client, "tiny")
        listening = asyncio.ensure_future(audience.all(LISTENERS))
        for chunks in places:
            await audience.until(chunks)
            await strike(client, server, signal.SIGKILL)
        heard = await listening
        gauges = (await client.report()).gauges
        assert gauges["resumed"] > 0
        assert gauges["lost_workers"] == len(places)
    assert all(one.equals(other) for one, other in zip(heard, undisturbed, strict=True))


async def test_a_worker_killed_half_way_through_32_sentences(standing_by: Config, undisturbed: list[Heard]) -> None:
    await check_killed(standing_by, undisturbed, [chunks_in(undisturbed) // 2])


async def test_two_workers_killed_one_after_the_other(standing_by: Config, undisturbed: list[Heard]) -> None:
    chunks = chunks_in(undisturbed)
    await check_killed(standing_by, undisturbed, [chunks // 3, chunks * 2 // 3])


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(1, 10))
async def test_a_worker_killed_at_each_tenth(standing_by: Config, undisturbed: list[Heard], tenth: int) -> None:
    chunks = chunks_in(undisturbed)
    await check_killed(standing_by, undisturbed, [chunks * tenth // 10])


@pytest.mark.parametrize(
    "hang", ["stopped", *(pytest.param(hang, marks=pytest.mark.soak) for hang in ("spin", "sleep"))]
)
async def test_a_worker_that_hangs_is_found_and_killed(
    cursable: Config, undisturbed: list[Heard], curses: Curses, hang: str
) -> None:
    async with AsyncClient.embedded(cursable) as client:
        (server,) = servers()
        await standby_is_ready(client)
        audience = Audience(client, "tiny")
        listening = asyncio.ensure_future(audience.all(LISTENERS))
        await audience.until(chunks_in(undisturbed) // 3)
        if hang == "stopped":
            await strike(client, server, signal.SIGSTOP)
        else:
            curses.put(workers_of(server)[await busiest(client)], hang)
        heard = await listening
        assert (await client.report()).gauges["resumed"] > 0
    assert all(one.equals(other) for one, other in zip(heard, undisturbed, strict=True))


async def test_one_request_of_32_that_raises_fails_alone_and_in_the_same_process(
    cursable: Config, undisturbed: list[Heard], curses: Curses
) -> None:
    async with AsyncClient.embedded(cursable) as client:
        (server,) = servers()
        before = workers_of(server)
        audience = Audience(client, "tiny", {5: "this xraise"})
        heard = await audience.outcomes(LISTENERS)
        assert workers_of(server) == before
    culprit = heard[5]
    assert isinstance(culprit, RequestFailed)
    assert (culprit.failure.kind, culprit.failure.message) == (FailureKind.WORKER_ERROR, "RuntimeError: cursed")
    check_others(heard, undisturbed, 5)


async def test_a_request_that_kills_every_worker_is_given_up_and_the_others_are_heard(
    cursable: Config, undisturbed: list[Heard], curses: Curses
) -> None:
    async with AsyncClient.embedded(cursable) as client:
        (server,) = servers()
        await standby_is_ready(client)
        before = workers_of(server)
        audience = Audience(client, "tiny", {5: "this xkill"})
        heard = await audience.outcomes(LISTENERS)
        generations = [int(name.rpartition(".")[2]) for name in workers_of(server)]
        assert len(before) == len(generations) == 2
        assert sum(generations) <= 2 + 3, "more than three workers were broken"
    culprit = heard[5]
    assert isinstance(culprit, RequestFailed)
    assert culprit.failure.kind is FailureKind.WORKER_DIED
    assert "2 workers" in culprit.failure.message
    check_others(heard, undisturbed, 5)


def check_others(heard: list[Heard | RequestFailed], undisturbed: list[Heard], culprit: int) -> None:
    for number, (one, other) in enumerate(zip(heard, undisturbed, strict=True)):
        if number != culprit:
            assert isinstance(one, Heard), one
            assert one.equals(other)
