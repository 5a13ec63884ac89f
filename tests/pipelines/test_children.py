"""What a server has started: one that cannot be started is no reason to end, and leaves nothing open."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest
import zmq

from max_pipelines.client import AsyncClient
from max_pipelines.server.children import Children
from max_pipelines.server.launcher import ProcessHandle, ProcessLauncher, ThreadHandle, ThreadLauncher, WorkerHandle
from max_pipelines.server.supervisor import MAX_CRASHES, Supervisor
from tests.pipelines.processes import config, serving, speech

PROBLEMS = [OSError(errno.EMFILE, os.strerror(errno.EMFILE)), RuntimeError("can't start new thread")]

START_S = 8.0  # of which the second worker takes half a one
HANGS_ONCE = """
import pathlib, sys, threading
if "max_pipelines.worker" in sys.orig_argv:
    try:
        pathlib.Path({path!r}).touch(exist_ok=False)
    except FileExistsError:
        pass
    else:
        threading.Event().wait()
"""


class Failing:
    """A launcher that fails so many times before it starts something."""

    def __init__(self, times: int, problem: Exception) -> None:
        self.times = times
        self.problem = problem

    def spawn(self, name: str) -> WorkerHandle:
        """Start nothing, but a pipe."""
        if self.times:
            self.times -= 1
            raise self.problem
        return ThreadHandle(name)


def descriptors() -> set[str]:
    """What this process has open."""
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_one_that_cannot_be_started_is_tried_again(problem: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    supervisor = Supervisor(2)
    children = Children(supervisor, Failing(1, problem), zmq.Poller())
    assert children.tick(0.0) == ""
    assert [handle.name for handle in children.handles.values()] == ["worker-1.1"]
    assert capsys.readouterr().err == f"maxpipe: worker-0.1 could not be started: {problem}\n"
    assert children.tick(supervisor.wake) == ""
    assert [handle.name for handle in children.handles.values()] == ["worker-1.1", "worker-0.2"]
    for handle in list(children.handles.values()):
        assert isinstance(handle, ThreadHandle)
        handle.ended()
        children.ended(handle.fileno())


def test_what_can_never_be_started_is_given_up() -> None:
    """Each place for itself, and with the last of them the whole."""
    supervisor = Supervisor(2)
    children = Children(supervisor, Failing(2 * MAX_CRASHES, PROBLEMS[0]), zmq.Poller())
    why = [children.tick(supervisor.wake) for _ in range(2 * MAX_CRASHES) if supervisor.wake < float("inf")]
    assert set(why[:-1]) == {""}
    assert why[-1].startswith("worker-1.5 could not be started: [Errno 24] Too many open files, the 5th time")
    assert not children.handles


async def test_a_server_outlives_a_start_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    problems, spawn = [PROBLEMS[0]], ThreadLauncher.spawn

    def fails_once(self: ThreadLauncher, name: str) -> WorkerHandle:
        if problems:
            raise problems.pop()
        return spawn(self, name)

    monkeypatch.setattr(ThreadLauncher, "spawn", fails_once)
    async with AsyncClient.embedded(config(transport="thread", chunks=5, samples=100)) as client:
        assert (await client.generate(speech())).audio_data.size == 500
    assert not problems


async def test_a_worker_that_hangs_before_it_says_anything_is_killed_and_the_next_one_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose packages lie on a disk that does not answer."""
    hanging = tmp_path / "hanging"
    hanging.mkdir()
    (hanging / "sitecustomize.py").write_text(HANGS_ONCE.format(path=str(hanging / "once")))
    monkeypatch.setenv("PYTHONPATH", str(hanging), prepend=os.pathsep)
    patient = config(chunks=5, samples=100)
    workers = msgspec.structs.replace(patient.workers, start_timeout_s=START_S)
    errors = tmp_path / "errors"
    with errors.open("w") as file, serving(msgspec.structs.replace(patient, workers=workers), tmp_path, file) as served:
        async with AsyncClient.connect(served.address) as client:
            assert (await client.generate(speech())).audio_data.size == 500
    assert f"worker-0.1 was not ready after {START_S:g} s; it is killed" in errors.read_text()
    assert "worker-0.1 was killed by SIGKILL" in errors.read_text()


def test_a_process_that_cannot_be_started_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise PROBLEMS[0]

    monkeypatch.setattr(subprocess, "Popen", full)
    before = descriptors()
    with pytest.raises(OSError, match="Too many"):
        ProcessLauncher(Path("config.yaml"), "ipc:///none").spawn("worker-0.1")
    assert descriptors() == before


def test_nor_does_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: threading.Thread) -> None:
        raise PROBLEMS[1]

    launcher = ThreadLauncher(lambda _, __: None)
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", full)
        with pytest.raises(RuntimeError, match="thread"):
            launcher.spawn("worker-0.1")
    assert descriptors() == before
    assert launcher.running == []


def test_an_end_by_a_signal_without_a_name_is_an_end_like_any_other() -> None:
    nameless = signal.SIGRTMIN + 3
    life, held = os.pipe()
    os.close(held)
    handle = ProcessHandle("worker-0.1", subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE), life)
    handle.process.send_signal(nameless)
    assert handle.reason() == f"was killed by signal {int(nameless)}"
    handle.close()
