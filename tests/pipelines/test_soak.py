"""Long runs of the road: memory that stays where it was, and callers that come and go while workers die."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from max_interfaces import AudioGenerationOutput, FailureKind, RequestFailed, RequestOptions
from max_pipelines.client import AsyncClient
from tests.pipelines.processes import Watch, children, command_of, config, plugins, serving, speech

__all__ = ["plugins"]

pytestmark = pytest.mark.soak

SENTENCES = 60  # about three minutes of speech
STORM_S = 120.0
CALLERS = 40
KILL_EVERY_S = 20.0  # a place that crashes more often than five times a minute is given up
SLACK_MB = 16.0  # of memory that may come and go
MB = 2**20


def resident_mb(pid: int) -> float:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def family(pid: int) -> dict[str, float]:
    """The memory of a process and all below it, by what they were started as."""
    found = {f"{pid} {command_of(pid)[:60]}": resident_mb(pid)}
    for child in children(pid):
        found |= family(child)
    return found


async def test_a_reader_at_playing_speed_gets_every_chunk_in_time_and_memory_stays_flat() -> None:
    text = " ".join(f"This is sentence number {number} of a long and quiet story." for number in range(SENTENCES))
    late: list[float] = []
    memory: list[dict[str, float]] = []
    heard, began = 0.0, 0.0
    async with AsyncClient.embedded("configs/speech.yaml") as client:
        rate = client.model().sample_rate
        output: AudioGenerationOutput | None = None
        async for output in client.speak(text):
            now = time.monotonic()
            began = began or now
            late.append(now - began - heard)  # above 0: the listener has waited in silence
            heard += output.audio_data.size / rate
            memory.append(family(os.getpid()))
            await asyncio.sleep(began + heard - time.monotonic())
    assert output is not None
    assert output.is_done
    assert heard > SENTENCES
    settled, last = memory[len(memory) // 4], memory[-1]
    print(f"{heard:.0f} s heard in {len(late)} chunks, the latest {1000 * max(late[1:]):.0f} ms late; {last} MB")
    for name, before in settled.items():
        assert last[name] < before + SLACK_MB, f"{name} grew from {before:.0f} to {last[name]:.0f} MB"


@pytest.mark.usefixtures("plugins")
async def test_callers_come_and_go_while_workers_die_and_nothing_is_left(tmp_path: Path) -> None:
    chance, ends = random.Random(7), Counter[str]()
    until = time.monotonic() + STORM_S

    async def caller(client: AsyncClient) -> None:
        """One stream after the other, each left in one of the ways in which callers leave."""
        while time.monotonic() < until:
            chunks = chance.randrange(1, 60)
            request = speech()
            stream = client.stream(request, RequestOptions(deadline_s=chance.choice([0.3, 60.0])))
            numbers = itertools.count()
            try:
                async for output in stream:
                    if output.is_done:
                        ends[output.final_status.value] += 1
                    else:
                        assert output.metadata.chunk_id == next(numbers)
                    if output.metadata.chunk_id == chunks:
                        ends["left"] += 1
                        if chance.random() < 0.5:
                            break
                        client.cancel(request.request_id)
            except RequestFailed as problem:
                ends[problem.failure.kind.value] += 1

    async def killer(client: AsyncClient) -> None:
        while time.monotonic() < until - KILL_EVERY_S:
            await asyncio.sleep(KILL_EVERY_S)
            with pytest.raises(RequestFailed):
                await client.generate(speech("die"))

    with serving(config("paced", count=3, places=8), tmp_path) as served:
        async with AsyncClient.connect(served.address) as client, AsyncClient.connect(served.address) as other:
            before = resident_mb(served.process.pid)
            await asyncio.gather(killer(client), *(caller(chance.choice([client, other])) for _ in range(CALLERS)))
            assert not (await anext(client.stream(speech()))).is_done  # and it still serves
            grown = resident_mb(served.process.pid) - before
            report = await client.report()
        print(f"{dict(ends)}, {report.gauges['resumed']} went on elsewhere; the server grew by {grown:.1f} MB")
        known = {"left", "cancelled", *(kind.value for kind in FailureKind)}
        assert ends.keys() <= known
        assert ends["left"] > CALLERS
        assert not ends[FailureKind.WORKER_DIED.value]  # who was there when a worker died has gone on elsewhere
        assert report.gauges["resumed"] > 0
        assert ends[FailureKind.DEADLINE_EXCEEDED.value]
        assert grown < SLACK_MB
        watch = Watch(served.process.pid, *served.workers)
        served.process.terminate()
        watch.wait_gone()
