"""Real processes for tests: servers, their workers, and small pipelines for them to run."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import msgspec
import pytest

from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.config import Config, Limits, ModelConfig, PipelineConfig, WorkersConfig

PATIENCE_S = 60.0  # for what takes milliseconds on a machine that is not busy
MAXPIPE = [sys.executable, "-c", "import sys; from max_pipelines.command import script; sys.exit(script())"]

PLUGINS = '''
import os, threading
from dataclasses import replace
from max_pipelines.registry import ServedPipeline
from max_pipelines.trivial import TrivialOptions, TrivialPipeline
from max_interfaces import AudioGenerationRequest, PipelineTask, RequestID

class Paced(TrivialPipeline):
    """A chunk each 20 ms, for ever; the word `die` kills the worker, `fail` only fails."""

    def admit(self, attempt):
        if attempt.request.input == "fail":
            raise ZeroDivisionError("in the pipeline")
        if attempt.request.input == "die":
            os.kill(os.getpid(), 9)
        super().admit(attempt)

    def execute(self, active):
        threading.Event().wait(0.02)
        return super().execute(active)

def paced(config):
    pipeline = Paced(TrivialOptions(chunks=100_000, samples=10))
    places = config.pipeline.options.get("places", 8)
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, places)

def lingering(config):
    return replace(paced(config), close=lambda: threading.Event().wait(0.5))

def hanging(config):
    return replace(paced(config), close=threading.Event().wait)

class Slow(TrivialPipeline):
    """Each step takes longer than a worker may be silent."""

    def execute(self, active):
        threading.Event().wait(1.6)
        return super().execute(active)

def slow(config):
    threading.Event().wait(1.6)
    pipeline = Slow(TrivialOptions(chunks=2, samples=10))
    canary = AudioGenerationRequest(RequestID(), config.model.name, "hello")
    return ServedPipeline(pipeline, AudioGenerationRequest, PipelineTask.AUDIO_GENERATION, 8, canary=canary)

def broken(config):
    raise RuntimeError("the weights are upside down")
'''
ENTRY_POINTS = "[maxpipe.pipelines]\n" + "".join(
    f"{name} = road_plugins:{name}\n" for name in ("paced", "lingering", "hanging", "slow", "broken")
)


def install(folder: Path, module: str, source: str, points: str) -> None:
    """What `pip install --target` leaves of a small package."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipelines above, for every process that is started from here on."""
    install(tmp_path / "site", "road_plugins", PLUGINS, ENTRY_POINTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)


def config(
    kind: str = "trivial",
    *,
    transport: Literal["process", "thread"] = "process",
    count: int = 1,
    limits: Limits | None = None,
    **options: int,
) -> Config:
    """A server of a small pipeline."""
    return Config(
        model=ModelConfig(name="voice"),
        pipeline=PipelineConfig(kind=kind, options=options),
        workers=WorkersConfig(count=count, transport=transport),
        limits=limits or Limits(),
        http=None,
    )


def write(config: Config, folder: Path) -> Path:
    """A config as a file."""
    path = folder / "config.yaml"
    path.write_bytes(msgspec.yaml.encode(config))
    return path


def speech(text: str = "Hello.", key: str | None = None, model: str = "voice") -> AudioGenerationRequest:
    """A request."""
    return AudioGenerationRequest(RequestID(key) if key else RequestID(), model, text)


@dataclass
class Served:
    """A running `maxpipe serve`."""

    process: subprocess.Popen[str]
    address: str

    @property
    def workers(self) -> list[int]:
        """Its workers' process ids."""
        return workers_below(self.process.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)


@contextmanager
def serving(config: Config, folder: Path, errors: IO[bytes] | IO[str] | None = None) -> Iterator[Served]:
    """`maxpipe serve`, ready. What it and its workers complain of goes to `errors`, or to our own standard error."""
    address = f"ipc://{folder}/road"
    command = [*MAXPIPE, "serve", str(write(config, folder)), "--address", address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        try:
            lines = iter(process.stdout.readline, "") if process.stdout else iter(())
            assert any("serving" in line for line in lines), "the server ended before it served"
            yield Served(process, address)
        finally:
            process.kill()


def children(pid: int) -> list[int]:
    """The process ids of a process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def workers_below(server: int) -> list[int]:
    """The process ids of a server's workers."""
    return [pid for pid in children(server) if "max_pipelines.worker" in command_of(pid)]


def command_of(pid: int) -> str:
    """What a process was started as."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def servers() -> list[int]:
    """The embedded servers below this process."""
    return [pid for pid in children(os.getpid()) if "max_pipelines.server" in command_of(pid)]


class Watch:
    """Processes, held by descriptors, so that their ends can be waited for whoever their parent is."""

    def __init__(self, *pids: int) -> None:
        self._held = {os.pidfd_open(pid): pid for pid in pids}

    def wait_gone(self) -> None:
        """Wait until all have ended."""
        for descriptor, pid in self._held.items():
            gone, _, _ = select.select([descriptor], [], [], PATIENCE_S)
            os.close(descriptor)
            assert gone, f"process {pid} is still there"
