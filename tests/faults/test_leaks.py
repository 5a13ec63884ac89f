"""`maxpipe soak` finds what leaks and what is lost, and nothing where nothing is."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from max_pipelines.client import AsyncClient
from max_pipelines.soak.load import Load
from max_pipelines.soak.outcome import Outcome, table
from max_pipelines.soak.processes import FILES, MEMORY, THREADS, server_at, usage, workers_of
from max_pipelines.soak.sampling import MISSING, OURSELVES, SERVER, TABLES, Numbers, Sample, Sampler
from max_pipelines.soak.verdict import Row, judge
from tests.pipelines.processes import MAXPIPE, config, install, serving, write

SECONDS = 6
SOAK_MINUTES = 5
USED = {"memory": MEMORY, "files": FILES, "threads": THREADS}  # what any process may leak
LEAKS = {**USED, "pages": "free_blocks"}  # … and a gauge of a worker, which falls
SOURCE = '''
import os, sys, threading, time
from dataclasses import replace
import msgspec
from max_interfaces import AudioGenerationMetadata
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_pipelines.registry import ServedPipeline
from max_interfaces import AudioGenerationRequest, PipelineTask

def wait_for_ever():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

LEAKS = {
    "memory": lambda: b"x" * 2**20,
    "files": lambda: os.open(os.devnull, os.O_RDONLY),
    "threads": wait_for_ever,
    "pages": lambda: TAKEN.append(None),
    "nothing": lambda: None,
}
KEPT, TAKEN = [], []

class Leaky(TrivialPipeline):
    """Leaks 25 times a second, as long as it has something to do."""

    def __init__(self, what):
        super().__init__(TrivialOptions(chunks=5, samples=100))
        self.leak, self.due = LEAKS[what], 0.0

    def execute(self, active):
        if time.monotonic() > self.due:
            self.due = time.monotonic() + 0.04
            KEPT.append(self.leak())
        return super().execute(active)

class Mortal(TrivialPipeline):
    """The third one ends in the midst of its work: two were killed before it."""

    def __init__(self):
        super().__init__(TrivialOptions(chunks=5, samples=100))
        self.steps = 0

    def execute(self, active):
        self.steps += 1
        if self.steps > 20 and sys.argv[sys.argv.index("--name") + 1].endswith(".3"):
            os._exit(1)
        return super().execute(active)

class Mute(TrivialPipeline):
    """Some requests never get anything, others get the wrong number."""

    def __init__(self):
        super().__init__(TrivialOptions(chunks=5, samples=100))
        self.dumb, self.wild = set(), set()

    def admit(self, attempt):
        super().admit(attempt)
        self.number = getattr(self, "number", 0) + 1
        {0: self.dumb, 1: self.wild}.get(self.number % 10, set()).add(attempt.request.request_id)

    def execute(self, active):
        chunks = super().execute([key for key in active if key not in self.dumb])
        return [self.renamed(chunk) if chunk.request_id in self.wild else chunk for chunk in chunks]

    def renamed(self, chunk):
        metadata = AudioGenerationMetadata(chunk_id=chunk.output.metadata.chunk_id + 1)
        return msgspec.structs.replace(chunk, output=replace(chunk.output, metadata=metadata))

def served(pipeline):
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 16)

def leaky(config):
    pipeline = Leaky(("nothing", "memory", "files", "threads", "pages")[config.pipeline.options["leak"]])
    return replace(served(pipeline), gauges=lambda: {"free_blocks": 10_000 - len(TAKEN)})

def mortal(config):
    return served(Mortal())

def mute(config):
    return served(Mute())
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    points = "[maxpipe.pipelines]\n" + "".join(
        f"{name} = leaky_plugin:{name}\n" for name in ("leaky", "mortal", "mute")
    )
    install(folder, "leaky_plugin", SOURCE, points)
    return folder


@dataclass(frozen=True)
class Ran:
    """What a `maxpipe soak` said."""

    code: int
    out: str
    err: str
    outcome: Outcome


@pytest.fixture(scope="module")
def soaks(site: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """At once: for each leak, without any, and where one dies, with servers of their own; and of one that runs."""
    with ExitStack() as stack:
        begun: dict[str, tuple[subprocess.Popen[str], Path]] = {}
        for number, name in enumerate(("nothing", *LEAKS)):
            folder = tmp_path_factory.mktemp(name)
            begun[name] = begin(folder, site, ["--config", str(write(config("leaky", leak=number), folder))])
        folder = tmp_path_factory.mktemp("mortal")
        begun["mortal"] = begin(folder, site, ["--config", str(write(config("mortal"), folder))])
        folder = tmp_path_factory.mktemp("running")
        served = stack.enter_context(serving(config(chunks=5, samples=100), folder))
        begun["running"] = begin(folder, site, ["--connect", served.address], ("--minutes", SECONDS / 60))
        return {name: end(*started) for name, started in begun.items()}


def begin(
    folder: Path, site: Path, options: Sequence[str], length: tuple[str, float] = ("--seconds", SECONDS)
) -> tuple[subprocess.Popen[str], Path]:
    found = folder / "outcome.json"
    command = [*MAXPIPE, "soak", length[0], str(length[1]), *options, "--json", str(found)]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True), found


def end(process: subprocess.Popen[str], found: Path, patience_s: float = 110.0) -> Ran:
    out, err = process.communicate(timeout=patience_s)
    assert found.exists(), err
    return Ran(process.returncode, out, err, msgspec.json.decode(found.read_bytes(), type=Outcome))


@pytest.mark.parametrize("leak", LEAKS)
def test_what_leaks_is_named(soaks: dict[str, Ran], leak: str) -> None:
    ran = soaks[leak]
    assert ran.code == 1, ran.out
    named = [line for line in ran.err.splitlines() if line.startswith("maxpipe soak: ")]
    assert [f"{row.what} of {row.whose.partition('.')[0]}" for row in ran.outcome.leaks] == [
        f"{LEAKS[leak]} of worker-0"
    ]
    assert len(named) == 1
    assert f"it leaks: {LEAKS[leak]} of worker-0" in named[0]
    assert ran.out.count("LEAKS") == 1
    assert not ran.outcome.lost


def test_a_worker_that_dies_by_itself_is_told_from_those_that_were_killed(soaks: dict[str, Ran]) -> None:
    ran = soaks["mortal"]
    assert (ran.outcome.killed, ran.outcome.died) == (2, 1), ran.err
    assert ran.code == 1, ran.out
    assert ran.err.splitlines()[-1] == "maxpipe soak: workers that died by themselves: 1"
    assert not ran.outcome.lost  # what it had has gone on elsewhere


@pytest.mark.parametrize("name", ["nothing", "running"])
def test_where_nothing_leaks_nothing_is_found(soaks: dict[str, Ran], name: str) -> None:
    ran = soaks[name]
    assert ran.code == 0, ran.out + ran.err
    assert "maxpipe soak:" not in ran.err
    assert "LEAKS" not in ran.out
    found = {(row.whose.partition(".")[0], row.what) for row in ran.outcome.rows}
    whose = (SERVER, OURSELVES, "worker-0")
    assert found >= {(each, what) for each in whose for what in USED.values()} | {
        (TABLES, "requests"),
        (TABLES, MISSING),
    }
    assert (("worker-0", "free_blocks") in found) == (name == "nothing")
    assert (ran.outcome.killed, ran.outcome.died) == (2 if name == "nothing" else 0, 0)
    assert ran.outcome.seconds >= SECONDS  # also where it was told in minutes
    assert ran.outcome.ends["end_of_sequence"] > 50
    assert ran.outcome.ends["left"] > 5
    assert len([sample for sample in ran.outcome.samples if sample.rest is not None]) == 9


async def test_a_request_without_a_proper_end_is_lost(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(site))
    with serving(config("mute"), tmp_path) as served:
        load = Load(lambda: AsyncClient.connect(served.address), random.Random(1), patience_s=0.7)
        await load.run(2.0)
    assert any("nothing came for 0.7 s" in lost for lost in load.lost), load.ends
    assert any("output 1 came where 0 was due" in lost for lost in load.lost), load.ends
    assert load.ends["no answer"]
    assert load.ends["out of order"]
    outcome = Outcome(1.0, dict(load.ends), 0, load.lost, [], [])
    assert not outcome.fine
    assert outcome.problems == load.lost


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ["trivial", "speech"])
def test_minutes_of_load_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    options = ["--config", str(Path(__file__).parents[2] / "configs" / f"{name}.yaml")]
    process, found = begin(tmp_path, tmp_path, options, ("--minutes", SOAK_MINUTES))
    ran = end(process, found, 2 * 60 * SOAK_MINUTES)
    print(ran.out)
    assert ran.code == 0, ran.err


# -- the verdict -------------------------------------------------------------------------------------------------

ROUNDS, SETTLED, CALM = 8, 2, 5


def verdict(whose: str, what: str, values: Sequence[float | None]) -> Row | None:
    """What is said of a number that was so at each rest, None where it was not there."""
    samples = []
    for number, value in enumerate(values):
        numbers: Numbers = {} if value is None else {whose: {what: value}}
        samples.append(Sample(10.0 * number, numbers, number))
        samples.append(Sample(10.0 * number + 5, {whose: {what: 1e6}}))  # under load it is no matter
    rows = judge(samples, SETTLED, CALM)
    return rows[0] if rows else None


@pytest.mark.parametrize(
    ("whose", "what", "values", "leaks"),
    [
        (SERVER, MEMORY, [20, 20, 30, 30, 30, 30, 30, 46, 46], False),
        (SERVER, MEMORY, [20, 20, 30, 30, 30, 30, 30, 47, 47], True),
        (SERVER, MEMORY, [20, 20, 30, 30, 30, 30, 30, 30, 90], False),  # it may come back
        (SERVER, MEMORY, [20, 20, 90, 30, 30, 30, 30, 100, 100], False),
        ("worker-0.3", MEMORY, [None, None, None, None, 900, 950, 960, 970, 997], False),  # a large one breathes more
        (SERVER, FILES, [9, 9, 20, 30, 30, 30, 30, 24, 24], False),
        ("worker-0.3", MEMORY, [None, None, None, None, 900, 950, 960, 998, 999], True),
        (SERVER, FILES, [9, 9, 20, 30, 30, 30, 30, 25, 25], True),
        (OURSELVES, THREADS, [1, 1, 2, 3, 3, 3, 3, 5, 5], True),
        (TABLES, "requests", [0, 0, 1, 1, 1, 1, 1, 1, 1], True),  # held against the time before the first round
        (TABLES, "requests", [3, 0, 0, 0, 0, 0, 0, 3, 3], False),
        (TABLES, MISSING, [0, 0, 0, 0, 0, 0, 0, 1, 1], True),
        ("worker-0.3", MEMORY, [None, None, None, None, 30, 100, 100, 110, 110], False),
        ("worker-0.3", MEMORY, [None, None, None, None, 30, 100, 110, 120, 130], True),
        ("worker-0.3", "free_blocks", [None, None, None, None, 60, 60, 59, 59, 59], True),
        ("worker-0.3", "free_blocks", [None, None, None, None, 60, 60, 59, 59, 60], False),
        ("worker-0.3", "free_blocks", [None, None, None, None, 60, 60, 61, 61, 61], False),
    ],
)
def test_growth_beyond_its_slack_leaks(whose: str, what: str, values: list[float | None], leaks: bool) -> None:
    row = verdict(whose, what, values)
    assert row is not None
    assert row.leaks == leaks
    assert row.most == 1e6
    assert ("LEAKS" in table([row])) == leaks


def test_a_worker_that_was_not_there_long_enough_is_not_judged() -> None:
    assert verdict("worker-0.4", MEMORY, [None, None, None, None, None, None, None, 30, 900]) is None


# -- what the system tells -------------------------------------------------------------------------------------------


def test_what_a_process_uses_is_seen() -> None:
    before = usage(os.getpid())
    assert before.keys() == {MEMORY, FILES, THREADS}
    kept = mmap.mmap(-1, 40 * 2**20, flags=mmap.MAP_PRIVATE)  # fresh memory, other than an allocator may have
    for page in range(0, len(kept), mmap.PAGESIZE):
        kept[page] = 1
    with socket.socket(), socket.socket():
        after = usage(os.getpid())
    assert after[FILES] == before[FILES] + 2
    assert after[MEMORY] > before[MEMORY] + 30
    kept.close()
    assert usage(2**22 + 1) == {}  # nobody's


def test_a_server_and_its_workers_are_found(tmp_path: Path) -> None:
    with serving(config(count=2), tmp_path) as served:
        assert server_at(served.address) == served.process.pid
        workers = workers_of(served.process.pid)
        assert sorted(workers) == ["worker-0.1", "worker-1.1"]
        assert sorted(workers.values()) == sorted(served.workers)
        numbers = asyncio.run(look(served.address))
        assert set(numbers) == {SERVER, OURSELVES, TABLES, "worker-0.1", "worker-1.1"}
    assert server_at(served.address) is None
    assert Sampler("tcp://example.org:1").workers == {}


async def look(address: str) -> Numbers:
    async with AsyncClient.connect(address) as client:
        return Sampler(address).look(await client.report())


def test_the_outcome_can_be_read_by_others(soaks: dict[str, Ran]) -> None:
    written = json.loads(msgspec.json.encode(soaks["nothing"].outcome))
    assert {"seconds", "ends", "killed", "lost", "rows", "samples", "died"} == written.keys()
