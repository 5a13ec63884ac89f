"""A soak from its first round to its outcome."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NoReturn

import msgspec
from tqdm import tqdm

from ..client import AsyncClient
from ..client.embedded import EmbeddedProcess
from ..config import Config
from .killing import Killer
from .load import Load
from .outcome import Outcome
from .processes import listens_at
from .sampling import FREE, HELD, MISSING, RUNNING, TABLES, Numbers, Sample, Sampler
from .verdict import judge
from .waiting import happens

ROUNDS = 8
SETTLED = 2  # rounds after which server and clients have all that they keep
KILLING = 4  # rounds in which workers may be killed
CALM = KILLING + 1  # … after which the last ones that were started have settled, too
SHOW_S = 1.0
MOST_SAMPLES = 1000  # they are kept in this process, which must not grow
REST_S = 60.0  # what a killed worker gets to be there again, and tables to become empty
GAUGES_S = 2.5  # two signs of life of a worker, which bring what it measures
LOOK_S = 0.1


@contextmanager
def own_server(config: Config) -> Iterator[str]:
    """The address of a server that runs as long as the block does, in processes of its own."""
    workers = msgspec.structs.replace(config.workers, transport="process")
    server = EmbeddedProcess(msgspec.structs.replace(config, workers=workers))
    try:
        address = str(server.address)
        while not listens_at(address):
            server.check()
            threading.Event().wait(LOOK_S)
        yield address
    finally:
        server.close()


async def soak(address: str, connect: Callable[[], AsyncClient], seconds: float, *, kills: bool) -> Outcome:
    """Load the server at an address for so long. `kills` if its workers may be killed; `connect` makes clients."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2))  # clients close in it: no more threads than these come with time
    async with connect() as observer:
        return await _Soak(address, connect, observer, seconds).run(kills)


class _Soak:
    def __init__(self, address: str, connect: Callable[[], AsyncClient], observer: AsyncClient, seconds: float) -> None:
        chance = random.Random(seconds)
        self._observer = observer
        self._seconds = seconds
        self._load = Load(connect, chance)
        self._sampler = Sampler(address)
        self._killer = Killer(lambda: self._sampler.workers, chance)
        self._begun = time.monotonic()
        self._samples: list[Sample] = []
        self._free: dict[tuple[str, str], float] = {}  # what workers had free when they were first seen at rest

    async def run(self, kills: bool) -> Outcome:
        """All rounds, each with its rest."""
        before = await self._deaths()
        with tqdm(total=round(self._seconds), desc="soak", unit="s", leave=False, disable=None) as bar:
            await self._rest(0)
            for number in range(1, 1 + ROUNDS):
                await self._round(number, bar, kills and number <= KILLING)
                await self._rest(number)
        rows = judge(self._samples, SETTLED, CALM if self._killer.killed else SETTLED)
        seconds, killed = time.monotonic() - self._begun, self._killer.killed
        died = max(0, await self._deaths() - before - killed)  # the last rounds are calm: all are known
        return Outcome(seconds, dict(self._load.ends), killed, self._load.lost, rows, self._samples, died)

    async def _round(self, number: int, bar: tqdm[NoReturn], kills: bool) -> None:
        over, seconds = asyncio.Event(), self._seconds / ROUNDS
        beside = [asyncio.ensure_future(self._watch(bar, over))]
        if kills:
            beside.append(asyncio.ensure_future(self._killer.work(number, seconds, over)))
        try:
            await self._load.run(seconds)
        finally:
            over.set()
            await asyncio.gather(*beside)

    async def _watch(self, bar: tqdm[NoReturn], over: asyncio.Event) -> None:
        """Show how far it is, and sample now and then."""
        load, every_s = self._load, max(SHOW_S, self._seconds / MOST_SAMPLES)
        while not await happens(over, SHOW_S):
            if time.monotonic() - self._begun >= self._samples[-1].at + every_s:
                self._keep(await self._look(), None)
            bar.set_postfix(requests=load.ends.total(), killed=self._killer.killed, lost=len(load.lost))
            bar.update(SHOW_S)

    async def _rest(self, number: int) -> None:
        """Wait until nothing is under way and all workers are there again, but not for ever; keep how it is then."""
        begun = time.monotonic()
        numbers = await self._look()
        before = self._samples[0].numbers if self._samples else numbers
        while _busy(numbers, before) or (time.monotonic() < begun + GAUGES_S and self._may_be_old(numbers)):
            if time.monotonic() > begun + REST_S:
                break
            await happens(asyncio.Event(), LOOK_S)
            numbers = await self._look()
        for key, value in _free(numbers).items():
            self._free.setdefault(key, value)
        self._keep(numbers, number)

    def _may_be_old(self, numbers: Numbers) -> bool:
        """Whether what a worker says of itself may be of a moment ago: it is not what is known of its rest."""
        return any(self._free.get(key) != value for key, value in _free(numbers).items())

    async def _deaths(self) -> int:
        """How many of the server's own workers have ended unasked since it was started."""
        return (await self._observer.report()).gauges.get("lost_workers", 0)

    async def _look(self) -> Numbers:
        return self._sampler.look(await self._observer.report())

    def _keep(self, numbers: Numbers, rest: int | None) -> None:
        self._samples.append(Sample(time.monotonic() - self._begun, numbers, rest))


def _busy(numbers: Numbers, before: Numbers) -> bool:
    """Whether more is under way than before the first round, or a worker is missing."""
    tables, idle = numbers[TABLES], before[TABLES]
    held = any(tables.get(name, 0) > idle.get(name, 0) for name in HELD)
    return held or tables[MISSING] > 0 or _running(numbers) > _running(before)


def _running(numbers: Numbers) -> float:
    return sum(values.get(RUNNING, 0) for values in numbers.values())


def _free(numbers: Numbers) -> dict[tuple[str, str], float]:
    """What workers have free, by worker and name."""
    return {
        (whose, what): value
        for whose, values in numbers.items()
        for what, value in values.items()
        if what.startswith(FREE)
    }
