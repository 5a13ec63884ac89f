"""Ten times as many requests as can be served: each is served whole or refused at once, and the work goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import msgspec
import pytest

from max_interfaces import FailureKind, RequestFailed, RequestOptions
from max_pipelines.client import AsyncClient
from max_pipelines.config import Config, Limits
from tests.faults.listening import percentile
from tests.pipelines.processes import PATIENCE_S, Served, config, install, serving, speech
from tests.pipelines.test_soak import resident_mb

CHUNKS, PLACES = 5, 8  # of a request, one each 20 ms: so 80 requests a second can be served
MAX_WAITING = 16
TIMES, OFFERED = 10, 5  # more than that, and at least, whatever else the machine has to do
CLIENTS = 4
SHORT_S, LONG_S, TURNS = 1.0, 6.0, 4  # of overload, and as long before and after it of saturation
KEPT = {"voice": 0.95, "tiny": 0.8}  # of the outputs, at least
FEW_PLACES, LINE = 2, 64  # and as many may wait, where one tenant takes what it can get
FLOOD = 2 * LINE
SINGLES = 5  # requests of another tenant, one after the other

SOURCE = '''
import threading
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_interfaces import AudioGenerationRequest, PipelineTask

class Brief(TrivialPipeline):
    """A chunk each 20 ms."""

    def execute(self, active):
        threading.Event().wait(0.02)
        return super().execute(active)

def brief(config):
    options = config.pipeline.options
    pipeline = Brief(TrivialOptions(chunks=options["chunks"], samples=100))
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, options["places"])
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a server may serve the pipeline above."""
    install(tmp_path / "site", "overload_plugin", SOURCE, "[maxpipe.pipelines]\nbrief = overload_plugin:brief\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return tmp_path


@dataclass(frozen=True)
class Pace:
    """What is served in a second. Requests differ in length, so it is by the outputs that two are compared."""

    requests: float
    outputs: float


def average(paces: Sequence[Pace]) -> Pace:
    return Pace(mean(pace.requests for pace in paces), mean(pace.outputs for pace in paces))


@dataclass
class Count:
    """What became of the requests for one model."""

    model: str
    completed: list[float] = field(default_factory=list)  # when
    heard: list[float] = field(default_factory=list)  # when each output came
    refusals: list[float] = field(default_factory=list)  # how long each took, in seconds

    async def call(self, client: AsyncClient) -> None:
        """One request, which must be heard whole or be refused as overloaded."""
        begun = time.monotonic()
        outputs = []
        try:
            async for output in client.stream(speech(model=self.model)):
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

    def pace(self, begun: float, seconds: float) -> Pace:
        """The first fifth left out: by then the line is as long as it gets."""
        first, last = begun + seconds / 5, begun + seconds
        completed, heard = (
            sum(first <= moment < last for moment in moments) for moments in (self.completed, self.heard)
        )
        return Pace(completed / (last - first), heard / (last - first))


async def saturate(clients: Sequence[AsyncClient], model: str, seconds: float) -> Pace:
    """As many callers as keep every place taken, and nobody refused."""
    count, begun = Count(model), time.monotonic()

    async def caller(client: AsyncClient) -> None:
        while time.monotonic() < begun + seconds:
            await count.call(client)

    async with asyncio.timeout(seconds + PATIENCE_S):
        await asyncio.gather(*(caller(clients[number % CLIENTS]) for number in range(PLACES + MAX_WAITING // 2)))
    assert not count.refusals
    return count.pace(begun, seconds)


async def overload(clients: Sequence[AsyncClient], count: Count, asked: float, seconds: float) -> Pace:
    """So many requests a second are `asked`, whatever becomes of them."""
    calls: list[asyncio.Task[None]] = []
    begun_with = len(count.completed) + len(count.refusals)
    begun = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        while len(calls) < (now - begun) * asked:
            calls.append(asyncio.ensure_future(count.call(clients[len(calls) % CLIENTS])))
        await asyncio.sleep(0.001)
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*calls)
    assert len(count.completed) + len(count.refusals) == begun_with + len(calls)
    return count.pace(begun, seconds)


@dataclass
class Outcome:
    """Outputs a second when overloaded, and resident memory of server and workers after, as shares of before.

    `offered`: how many times as many requests as are completed at saturation were really sent.
    """

    kept: float
    offered: float
    grown: list[float]


async def check_overload(served: Served, model: str, seconds: float, turns: int = 1) -> Outcome:
    """Overload for so long each time, between saturations: if the machine has other work, both have their share."""
    processes = [served.process.pid, *served.workers]
    count, paces = Count(model), list[Pace]()
    async with connected(served, CLIENTS) as clients:
        saturations = [await saturate(clients, model, seconds)]
        before = [resident_mb(pid) for pid in processes]
        for _ in range(turns):
            paces.append(await overload(clients, count, TIMES * saturations[-1].requests, seconds))
            saturations.append(await saturate(clients, model, seconds))
        after = [resident_mb(pid) for pid in processes]
        pace, saturated = average(paces), average([average(saturations[:-1]), average(saturations[1:])])
        gauges = (await clients[0].report()).gauges
    refused = count.refusals
    assert (gauges["requests"], gauges["waiting"], gauges["overloaded"]) == (0, 0, len(refused))
    assert count.completed
    assert refused
    offered = (len(count.completed) + len(refused)) / (turns * seconds * saturated.requests)
    kept = pace.outputs / saturated.outputs
    print(f"{saturated.requests:.1f} completed a second at saturation, {saturated.outputs:.0f} outputs;")
    print(f"{offered:.2f} times as many offered: {pace.requests:.1f} completed, {pace.outputs:.0f} outputs;")
    print(f"{kept:.3f} of the outputs are kept;")
    print(f"{len(refused)} refused in {1e3 * percentile(refused, 0.5):.1f} ms (median),")
    print(f"{1e3 * percentile(refused, 0.99):.1f} ms (99 %), {1e3 * max(refused):.1f} ms (longest);")
    print(f"server and workers had {before} MB before, {after} MB after")
    return Outcome(kept, offered, [new / old for new, old in zip(after, before, strict=True)])


@asynccontextmanager
async def connected(served: Served, count: int) -> AsyncIterator[list[AsyncClient]]:
    """So many clients."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(AsyncClient.connect(served.address)) for _ in range(count)]


def brief(places: int, max_waiting: int) -> Config:
    """A server whose requests take 0.1 s each."""
    return config("brief", limits=Limits(max_waiting=max_waiting), chunks=CHUNKS, places=places)


async def test_of_ten_times_too_many_each_is_served_or_refused(folder: Path) -> None:
    with serving(brief(PLACES, MAX_WAITING), folder) as served:
        await check_overload(served, "voice", SHORT_S)


@pytest.mark.soak
@pytest.mark.parametrize("model", KEPT)
async def test_overload_costs_little_of_what_is_served_and_no_memory(
    folder: Path, tiny_voice: Config, model: str
) -> None:
    """A worker of `tiny` takes a whole core. Who asks for too much takes a tenth of one, which it may lack."""
    engine = msgspec.structs.replace(tiny_voice.engine, max_batch=PLACES)
    tiny = msgspec.structs.replace(tiny_voice, engine=engine, limits=Limits(max_waiting=MAX_WAITING))
    with serving(tiny if model == "tiny" else brief(PLACES, MAX_WAITING), folder) as served:
        outcome = await check_overload(served, model, LONG_S, TURNS)
    assert outcome.offered >= OFFERED
    assert outcome.kept >= KEPT[model]
    assert max(outcome.grown) <= 1.05


# -- one tenant among others -----------------------------------------------------------------------------------------


async def test_a_tenant_that_floods_does_not_keep_others_waiting(folder: Path) -> None:
    """Each single request is served before more of the flood have ended than three times as many as there are places.

    One of the flood runs in each place when it comes, one more may begin before it, and one beside it.
    """
    with serving(brief(FEW_PLACES, LINE), folder) as served:
        async with connected(served, 2) as (flooding, single):
            ended: list[str] = []
            flood = [asyncio.ensure_future(tell(ended, flooding, "flood")) for _ in range(FLOOD)]
            await until_full(single)
            for _ in range(SINGLES):
                before = len(ended)
                await tell(ended, single, "single")
                assert ended[-1] == "single", "refused"
                assert ended[before:].count("flood") <= 3 * FEW_PLACES
            assert (await single.report()).gauges["waiting"] > LINE // 4, "the flood was over before it mattered"
            for call in flood:
                call.cancel()
            await asyncio.gather(*flood, return_exceptions=True)


async def tell(ended: list[str], client: AsyncClient, tenant: str) -> None:
    """One request of a tenant; note when it ends, or that it was refused."""
    try:
        await client.generate(speech(), RequestOptions(tenant=tenant))
    except RequestFailed as problem:
        failure = problem.failure
        ended.append("refused")
    else:
        ended.append(tenant)
        return
    assert failure.kind is FailureKind.OVERLOADED
    assert failure.retry_after


async def until_full(client: AsyncClient) -> None:
    """Wait until the server has refused something."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await client.report()).gauges["overloaded"]:
            await asyncio.sleep(0.005)
