"""Adapters over the real road: loaded by all, found again after a death, changed under load without harm to anybody."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    FailureKind,
    LoRAStatus,
    RequestFailed,
    RequestID,
    RequestOptions,
    SamplingParams,
    TextGenerationRequest,
)
from max_pipelines.client import AsyncClient, Client
from max_pipelines.config import EngineConfig
from tests.engines.tiny_adapters import EVERYTHING, save_lora
from tests.pipelines.processes import MAXPIPE, Served, Watch, config, install, serving
from tests.tiny_text import make_tiny_text

SINGERS = '''
import threading
from pathlib import Path
import numpy as np
from max_interfaces import (
    AdapterRefused, AudioGenerationMetadata, AudioGenerationOutput, AudioGenerationRequest, Chunk, GenerationStatus,
    LoRAStatus, PipelineTask,
)
from max_pipelines.registry import ServedPipeline

class Weights:
    """An adapter is a number in a file, and a lot of memory."""

    def __init__(self):
        self.loaded = {}
        self.held = {}

    @property
    def names(self):
        return self.loaded

    def number(self, name):
        return self.loaded.get(name, 0)

    def load(self, name, path):
        if name in self.loaded:
            raise AdapterRefused(LoRAStatus.LOAD_NAME_EXISTS, f"{name} is there")
        self.loaded[name] = int((Path(path) / "weights").read_text())
        self.held[name] = np.ones(2**20, np.uint8)

    def unload(self, name):
        del self.loaded[name], self.held[name]

class Singers:
    """A request's text says how many outputs it gets; each has its weights as samples, which it began with."""

    def __init__(self, weights):
        self.weights = weights
        self.states = {}

    def admit(self, attempt):
        request = attempt.request
        if request.adapter_id is not None and request.adapter_id not in self.weights.names:
            raise ValueError(f"adapter_id = {request.adapter_id!r}: is not loaded")
        weight = 0 if request.adapter_id is None else self.weights.loaded[request.adapter_id]
        self.states[request.request_id] = [attempt.next_seq, int(request.input), weight]

    def execute(self, active):
        threading.Event().wait(0.002)
        return [self.sing(request_id) for request_id in active]

    def sing(self, request_id):
        state = self.states[request_id]
        number, length, weight = state
        state[0] += 1
        status = GenerationStatus.END_OF_SEQUENCE if number + 1 >= length else GenerationStatus.ACTIVE
        output = AudioGenerationOutput(
            status, 1, np.full(4, weight, np.float32), metadata=AudioGenerationMetadata(chunk_id=number)
        )
        return Chunk(request_id, output, (number,), 4 * number, 4)

    def release(self, request_id):
        self.states.pop(request_id, None)

def singers(config):
    weights = Weights()
    return ServedPipeline(
        Singers(weights), AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 8, adapters=weights,
        gauges=lambda: {"loaded": len(weights.loaded)},
    )
'''
GROWTH = 16  # MiB that a worker may grow by; what is loaded and unloaded meanwhile are 200
OPTIONS = RequestOptions(deadline_s=60.0)


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of adapters 1 to 9, and a pipeline that uses them, for every process that is started from here on."""
    install(tmp_path / "site", "road_singers", SINGERS, "[maxpipe.pipelines]\nsingers = road_singers:singers\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    for number in range(1, 10):
        (tmp_path / "adapters" / str(number)).mkdir(parents=True)
        (tmp_path / "adapters" / str(number) / "weights").write_text(str(number))
    return tmp_path / "adapters"


@pytest.fixture
def served(adapters: Path, tmp_path: Path) -> Iterator[Served]:
    engine = EngineConfig(adapter_folder=str(adapters))
    with serving(msgspec.structs.replace(config("singers", count=2), engine=engine), tmp_path) as server:
        yield server


def song(length: int, adapter: str | None = None) -> AudioGenerationRequest:
    return AudioGenerationRequest(RequestID(), "voice", str(length), adapter_id=adapter)


async def weights(client: AsyncClient, length: int, adapter: str | None = None) -> set[float]:
    """The weights that a request was answered with."""
    outputs = [output async for output in client.stream(song(length, adapter), OPTIONS)]
    assert len(outputs) == length
    return {float(sample) for output in outputs for sample in output.audio_data}


async def test_all_workers_have_what_is_loaded_and_what_a_killed_one_had_goes_on(served: Served) -> None:
    async with AsyncClient.connect(served.address) as client:
        ready = 0
        while ready < 2:  # it serves as soon as one is
            ready = sum("loaded" in worker.gauges for worker in (await client.report()).workers)
        response = await client.load_adapter("ann", "3")
        assert (response.status, response.message) == (LoRAStatus.SUCCESS, "")
        assert await client.adapters() == ("ann",)
        assert [worker.gauges["loaded"] for worker in (await client.report()).workers] == [1, 1]
        heard: list[AudioGenerationOutput] = []
        async for output in client.stream(song(1500, "ann"), OPTIONS):
            heard.append(output)
            if len(heard) in (20, 100):  # both that were there at the start: the last part is a successor's
                workers = (await client.report()).workers
                (found,) = (worker.gauges["pid"] for worker in workers if worker.running)
                watch = Watch(found)
                os.kill(found, signal.SIGKILL)
                await asyncio.to_thread(watch.wait_gone)
        assert [output.metadata.chunk_id for output in heard] == list(range(1500))
        assert np.unique(np.concatenate([output.audio_data for output in heard])).tolist() == [3.0]
        assert await weights(client, 5, "ann") == {3.0}
        assert (await client.unload_adapter("ann")).status is LoRAStatus.SUCCESS
        with pytest.raises(RequestFailed, match="no adapter 'ann' is loaded") as refused:
            await weights(client, 5, "ann")
        assert refused.value.failure.kind is FailureKind.UNKNOWN_MODEL


async def test_two_hundred_loads_and_unloads_under_load_harm_nobody(served: Served) -> None:
    over = asyncio.Event()
    songs = 0

    async def listen(client: AsyncClient, adapter: str | None, right: float) -> None:
        nonlocal songs
        while not over.is_set():
            assert await weights(client, 40, adapter) == {right}
            songs += 1

    def memory() -> list[int]:
        """MiB of each worker."""
        lines = [Path(f"/proc/{pid}/status").read_text() for pid in served.workers]
        return [int(text.split("VmRSS:")[1].split()[0]) // 1024 for text in lines]

    async def change(client: AsyncClient, times: int) -> None:
        """Load, use and unload one after the other, two names in turn, each time with other weights."""
        for number in range(times):
            name, number_of = f"name-{number % 2}", 1 + number % 7
            assert (await client.load_adapter(name, str(number_of))).status is LoRAStatus.SUCCESS
            running = asyncio.ensure_future(weights(client, 30, name))
            assert await weights(client, 2, name) == {number_of}
            assert (await client.unload_adapter(name)).status is LoRAStatus.SUCCESS
            assert await running == {number_of}, "what runs keeps its weights"

    async with AsyncClient.connect(served.address) as client:
        assert (await client.load_adapter("stays", "9")).status is LoRAStatus.SUCCESS
        async with asyncio.TaskGroup() as load:
            for adapter, right in ((None, 0.0), ("stays", 9.0), ("stays", 9.0)):
                load.create_task(listen(client, adapter, right))
            await change(client, 10)
            before = memory()
            await change(client, 90)
            after = memory()
            over.set()
        report = await client.report()
        assert await client.adapters() == ("stays",)
    assert songs > 10
    assert report.gauges["requests"] == 0
    assert report.gauges["lost_workers"] == 0
    assert [worker.gauges["loaded"] for worker in report.workers] == [1, 1]
    assert [worker.running for worker in report.workers] == [0, 0]
    assert max(new - old for old, new in zip(before, after, strict=True)) <= GROWTH


def test_from_the_command_line_and_without_await(served: Served) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        command = [*MAXPIPE, "adapters", *arguments, "--connect", served.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        return done.returncode, done.stdout, done.stderr

    assert run("list") == (0, "", "")
    assert run("load", "ann", "4") == (0, "", "")
    assert run("list") == (0, "ann\n", "")
    code, _, error = run("load", "ann", "5")
    assert (code, error) == (2, "maxpipe adapters: 'ann' is loaded already; choose another name\n")
    with Client.connect(served.address) as client:
        assert client.adapters() == ("ann",)
        assert client.generate(song(1, "ann")).audio_data.tolist() == [4.0] * 4
        assert client.load_adapter("bob", "../..").status is LoRAStatus.LOAD_INVALID_PATH
        assert client.load_adapter("bob", "5").status is LoRAStatus.SUCCESS
        assert client.unload_adapter("ann").status is LoRAStatus.SUCCESS
    assert run("unload", "bob") == (0, "", "")
    assert run("unload", "bob")[2] == "maxpipe adapters: no adapter of the name 'bob' is loaded\n"
    assert run("list") == (0, "", "")


async def test_a_real_adapter_says_the_same_from_the_file_and_loaded_later(tmp_path: Path) -> None:
    made = make_tiny_text(tmp_path / "base", transport="thread")
    folder = tmp_path / "real"
    save_lora(folder / "lora", Path(made.model.path), targets=EVERYTHING)
    save_lora(folder / "wide", Path(made.model.path), rank=16)
    engine = msgspec.structs.replace(
        made.engine, adapters={"given": str(folder / "lora")}, adapter_folder=str(folder), max_adapter_rank=8
    )
    params = SamplingParams(temperature=0, max_new_tokens=8, ignore_eos=True)

    async def said(client: AsyncClient, adapter: str | None) -> tuple[int, ...]:
        model = made.model.name
        request = TextGenerationRequest(RequestID(), model, (9, 10, 11), sampling_params=params, adapter_id=adapter)
        return (await client.generate(request)).tokens

    async with AsyncClient.embedded(msgspec.structs.replace(made, engine=engine)) as client:
        assert (await client.load_adapter("later", "lora")).status is LoRAStatus.SUCCESS
        plain, given, later = [await said(client, adapter) for adapter in (None, "given", "later")]
        assert given == later != plain
        assert (await client.load_adapter("wide", "wide")).status is LoRAStatus.LOAD_INVALID_ADAPTER
        assert (await client.unload_adapter("later")).status is LoRAStatus.SUCCESS
        assert await client.adapters() == ("given",)
