"""A worker dies, or hangs, in the middle of a sentence: nobody who listens can tell."""

from __future__ import annotations

import asyncio
import signal

import msgspec
import numpy as np
import pytest

from max_interfaces import FailureKind, RequestFailed
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, Limits, PipelineConfig
from max_pipelines.worker.loop import HEARTBEAT_S
from tests.faults.cursed import Curses, curses
from tests.faults.listening import Audience, Heard, sends, standby_is_ready, strike, workers_of
from tests.pipelines.processes import Watch, servers

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

    heard = asyncio.run(listen())
    assert all(np.abs(one.samples).max() > 0.01 for one in heard), "silence equals silence"
    assert not heard[0].equals(heard[1]), "all sounds are the same"
    return heard


def chunks_in(heard: list[Heard]) -> int:
    return sum(len(one.arrivals) for one in heard)


async def check_killed(config: Config, undisturbed: list[Heard], places: list[int]) -> list[int]:
    """Kill the worker after each of these numbers of chunks: everybody hears what they heard before.

    Returns how many requests had gone on elsewhere after each. Prints when each was known, and how long nobody spoke.
    """
    async with AsyncClient.embedded(config) as client:
        (server,) = servers()
        await standby_is_ready(client, config.workers.standby)
        audience = Audience(client, "tiny")
        listening = asyncio.ensure_future(audience.all(LISTENERS))
        strikes, resumed = [], [0]
        for chunks in places:
            await audience.until(chunks)
            strikes.append(await strike(client, sends(signal.SIGKILL, server)))
            resumed.append((await client.report()).gauges["resumed"])
            assert resumed[-1] > resumed[-2], "nobody was interrupted"
        heard = await listening
        assert (await client.report()).gauges["lost_workers"] == len(places)
    assert all(one.equals(other) for one, other in zip(heard, undisturbed, strict=True))
    calm = max(gap for one in undisturbed if (gap := one.gap(one.arrivals[0])) is not None)
    for killed, count in zip(strikes, resumed[1:], strict=True):
        print(f"{count} resumed so far; {killed.told(heard)} ({calm:.3f} s when nothing happens)")
    return resumed[1:]


async def test_a_worker_killed_half_way_through_32_sentences(standing_by: Config, undisturbed: list[Heard]) -> None:
    (resumed,) = await check_killed(standing_by, undisturbed, [chunks_in(undisturbed) // 2])
    assert resumed >= LISTENERS // 2


@pytest.mark.soak
async def test_two_workers_killed_one_after_the_other(standing_by: Config, undisturbed: list[Heard]) -> None:
    chunks, workers = chunks_in(undisturbed), msgspec.structs.replace(standing_by.workers, standby=2)
    twice = msgspec.structs.replace(standing_by, workers=workers)
    await check_killed(twice, undisturbed, [chunks // 3, chunks * 2 // 3])


@pytest.mark.soak
@pytest.mark.parametrize("tenth", range(1, 10))
async def test_a_worker_killed_at_each_tenth(standing_by: Config, undisturbed: list[Heard], tenth: int) -> None:
    chunks = chunks_in(undisturbed)
    await check_killed(standing_by, undisturbed, [chunks * tenth // 10])


def test_a_hang_is_found_within_three_heartbeats() -> None:
    assert Limits().silence_s <= 3 * HEARTBEAT_S


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
        before = workers_of(server)
        watch = {name: Watch(pid) for name, pid in before.items()}
        struck: list[str] = []

        def harm(name: str) -> None:
            struck.append(name)
            if hang == "stopped":
                sends(signal.SIGSTOP, server)(name)
            else:
                curses.put(before[name], hang)

        found = await strike(client, harm)
        watch[struck[0]].wait_gone()
        heard = await listening
        gauges = (await client.report()).gauges
        assert gauges["resumed"] > 0
        assert gauges["lost_workers"] == 1
    print(found.told(heard))
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


@pytest.mark.parametrize("curse", ["xkill", pytest.param("xspin", marks=pytest.mark.soak)])
async def test_a_request_that_kills_or_hangs_every_worker_is_given_up_and_the_others_are_heard(
    cursable: Config, undisturbed: list[Heard], curses: Curses, curse: str
) -> None:
    async with AsyncClient.embedded(cursable) as client:
        (server,) = servers()
        await standby_is_ready(client)
        before = workers_of(server)
        audience = Audience(client, "tiny", {5: f"this {curse}"})
        heard = await audience.outcomes(LISTENERS)
        generations = [int(name.rpartition(".")[2]) for name in workers_of(server)]
        assert (await client.report()).gauges["lost_workers"] <= 3
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
