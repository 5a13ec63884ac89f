"""Processes that die, and what the others do then: nobody waits for ever, and no child outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from max_interfaces import FailureKind, RequestFailed
from max_pipelines.client import AsyncClient, Client
from max_pipelines.config import Limits
from max_pipelines.server.dispatcher import Dispatcher
from max_pipelines.server.stopping import Stopping
from tests.pipelines.processes import (
    MAXPIPE,
    PATIENCE_S,
    Watch,
    children,
    config,
    plugins,
    servers,
    serving,
    speech,
    workers_below,
    write,
)

__all__ = ["plugins"]

SCRIPT = """
from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.client import Client
with Client.embedded("{config}") as client:
    print(client.generate(AudioGenerationRequest(RequestID(), "voice", "Hello.")).audio_data.size)
"""
ENDLESS = """
from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.client import Client
with Client.{open} as client:
    for output in client.stream(AudioGenerationRequest(RequestID(), "voice", "Hello.")):
        print("streaming", flush=True)
"""
HANGING = """
from max_interfaces import AudioGenerationRequest, RequestID
from max_pipelines.client import Client, embedded
from max_pipelines.server import launcher
{wait} = 0.01
with Client.embedded("{config}") as client:
    next(client.stream(AudioGenerationRequest(RequestID(), "voice", "Hello.")))
print("closed", flush=True)
"""
FORKING = """
import os, signal
from max_pipelines.client import Client
with Client.{open} as client:
    child = os.fork()
    if not child:
        signal.pause()
    print(child, flush=True)
    signal.pause()
"""
NOTEBOOK = """
import ast, asyncio, inspect, types
cells = [
    "from max_interfaces import AudioGenerationRequest, RequestID",
    "from max_pipelines.client import AsyncClient, Client",
    "client = await AsyncClient.embedded('{config}').__aenter__()",
    "print((await client.generate(AudioGenerationRequest(RequestID(), 'voice', 'Hello.'))).audio_data.size)",
    "await client.close()",
    "client = Client.embedded('{config}').__enter__()",  # the loop of the notebook runs meanwhile
    "print(client.generate(AudioGenerationRequest(RequestID(), 'voice', 'Hello.')).audio_data.size)",
]
async def notebook():
    for cell in cells:
        code = compile(cell, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = types.FunctionType(code, globals())()
        if inspect.isawaitable(result):
            await result
asyncio.run(notebook())  # and the last client is never closed
"""


def leftovers(folder: Path) -> list[str]:
    """What servers have left behind in a temporary folder."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if "maxpipe-" in str(path)]


@pytest.fixture
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder for everything that is started from here on; it marks those processes too."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def still_there(folder: Path) -> list[str]:
    """Processes, other than this one, that were started with this temporary folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            mine = f"TMPDIR={folder}".encode() in (path / "environ").read_bytes()
            if mine and int(path.name) != os.getpid():
                found.append((path / "cmdline").read_text())
        except OSError:
            continue
    return found


# -- programs of all kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["script without a guard", "standard input", "notebook"])
def test_any_program_may_start_a_server_and_leaves_nothing(kind: str, tmp_path: Path, marked: Path) -> None:
    path = write(config(chunks=5, samples=100), tmp_path)
    source = (NOTEBOOK if kind == "notebook" else SCRIPT).replace("{config}", str(path))
    script = tmp_path / "script.py"
    script.write_text(source)
    commands = {"script without a guard": [str(script)], "standard input": ["-"], "notebook": ["-c", source]}
    ran = subprocess.run(
        [sys.executable, *commands[kind]],
        input=source if kind == "standard input" else None,
        capture_output=True,  # which also waits for every process that still holds our pipes
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout.split()) == (0, ["500"] * (2 if kind == "notebook" else 1)), ran.stderr
    assert not still_there(marked)
    assert not leftovers(marked)


def test_the_server_survives_the_thread_that_started_it() -> None:
    clients: list[Client] = []

    def begin() -> None:
        clients.append(Client.embedded(config(chunks=5, samples=100)).__enter__())

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    (client,) = clients
    try:
        assert client.generate(speech()).audio_data.size == 500
    finally:
        client.close()


@pytest.mark.usefixtures("plugins")
def test_no_thread_of_an_embedded_server_outlives_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that still holds a model when Python ends can take the process down with it."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with Client.embedded(config("lingering", transport="thread")) as client:
        next(client.stream(speech()))
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("worker-", "maxpipe-"))]


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(("hangs", "wait"), [("worker-0.1", "launcher.REAP_S"), ("maxpipe-server", "embedded.CLOSE_S")])
def test_a_thread_that_hangs_does_not_keep_its_client(hangs: str, wait: str, tmp_path: Path) -> None:
    """A worker's, which still has its socket, or the server's that waits for it."""
    path = write(config("hanging", transport="thread"), tmp_path)
    source = HANGING.format(config=path, wait=wait)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout) == (0, "closed\n")
    assert f"the client is closed, but {hangs}" in done.stderr


# -- kills -------------------------------------------------------------------------------------------------------


async def test_what_a_killed_worker_had_begun_goes_on_with_the_next(plugins: None) -> None:
    async with AsyncClient.embedded(config("paced")) as client:
        (server,) = servers()
        (worker,) = workers_below(server)
        stream = client.stream(speech())
        first = await anext(stream)
        os.kill(worker, signal.SIGKILL)
        numbers = [(await anext(stream)).metadata.chunk_id for _ in range(20)]
        assert numbers == list(range(first.metadata.chunk_id or 0, 20 + 1))[1:]


async def test_a_request_that_kills_its_worker_fails_with_the_others_there(plugins: None) -> None:
    async with AsyncClient.embedded(config("paced", count=2)) as client:
        whole = await asyncio.gather(*(client.generate(speech("die")) for _ in range(2)), return_exceptions=True)
        assert all(isinstance(one, RequestFailed) for one in whole)
        assert (await anext(client.stream(speech()))).metadata.chunk_id == 0


@pytest.mark.usefixtures("plugins")
async def test_who_is_known_to_be_slow_is_not_taken_for_hung() -> None:
    async with AsyncClient.embedded(config("slow", limits=Limits(silence_s=1.3))) as client:
        (server,) = servers()
        before = workers_below(server)
        whole = await asyncio.gather(*(client.generate(speech()) for _ in range(3)))
        assert [one.audio_data.size for one in whole] == [20] * 3
        assert workers_below(server) == before


@pytest.mark.usefixtures("plugins")
def test_a_killed_client_takes_its_server_and_workers_along(tmp_path: Path, marked: Path) -> None:
    path = write(config("paced", count=2), tmp_path)
    source = ENDLESS.format(open=f"embedded({str(path)!r})")
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as client:
        assert client.stdout
        assert client.stdout.readline() == b"streaming\n"
        (server,) = children(client.pid)
        watch = Watch(server, *children(server))
        client.kill()
        watch.wait_gone()
    assert not leftovers(marked)


@pytest.mark.usefixtures("plugins")
def test_a_child_that_the_killed_client_had_forked_does_not_keep_the_server(tmp_path: Path, marked: Path) -> None:
    path = write(config("paced"), tmp_path)
    source = FORKING.format(open=f"embedded({str(path)!r})")
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as client:
        assert client.stdout
        forked = int(client.stdout.readline())
        try:
            (server,) = set(children(client.pid)) - {forked}
            watch = Watch(server, *children(server))
            client.kill()
            watch.wait_gone()
        finally:
            os.kill(forked, signal.SIGKILL)
    assert not leftovers(marked)


async def test_a_server_thread_that_fails_fails_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncClient.embedded(config(transport="thread", chunks=100_000, samples=1)) as client:
        stream = client.stream(speech())
        await anext(stream)

        def broken(*_: object) -> None:
            raise ZeroDivisionError("in the dispatcher")

        monkeypatch.setattr(Dispatcher, "handle", broken)
        with pytest.raises(RequestFailed, match="ZeroDivisionError: in the dispatcher") as caught:
            async for _ in stream:
                pass
        assert caught.value.failure.kind is FailureKind.CONNECTION_LOST


@pytest.mark.usefixtures("plugins")
def test_a_killed_client_of_a_server_loses_its_place_and_the_server_goes_on(tmp_path: Path) -> None:
    with serving(config("paced", places=1, limits=Limits(lease_s=1.5)), tmp_path) as served:
        source = ENDLESS.format(open=f"connect({served.address!r})")
        with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as client:
            assert client.stdout
            assert client.stdout.readline() == b"streaming\n"
            client.kill()
        with Client.connect(served.address) as next_one:
            assert next(iter(next_one.stream(speech()))).metadata.chunk_id == 0


@pytest.mark.usefixtures("plugins")
async def test_a_killed_server_leaves_neither_process_nor_file_and_another_may_have_its_address(tmp_path: Path) -> None:
    with serving(config("paced", count=2), tmp_path) as served:
        async with AsyncClient.connect(served.address) as client:
            stream = client.stream(speech())
            await anext(stream)
            watch = Watch(*children(served.process.pid))  # the one that tidies up, too
            served.signal(signal.SIGKILL)
            with pytest.raises(RequestFailed) as caught:
                _ = [output async for output in stream]
            assert caught.value.failure.kind is FailureKind.CONNECTION_LOST
            with pytest.raises(RequestFailed) as caught:  # and no request is queued for nobody
                await client.generate(speech())
            assert caught.value.failure.kind is FailureKind.CONNECTION_LOST
            with serving(config("paced"), tmp_path) as successor, Client.connect(successor.address) as next_one:
                watch.wait_gone()  # whoever tidies up leaves its successor's files alone
                assert next(iter(next_one.stream(speech()))).metadata.chunk_id == 0
                assert Path(tmp_path, "road").is_socket()
                watch = Watch(*children(successor.process.pid))
            watch.wait_gone()  # it was killed, too
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith("road")] == []


@pytest.mark.usefixtures("plugins")
def test_a_server_killed_below_its_client_leaves_no_private_folder(marked: Path) -> None:
    with Client.embedded(config("paced")):
        (server,) = servers()
        watch = Watch(*children(server))
        os.kill(server, signal.SIGKILL)
        watch.wait_gone()
    assert not leftovers(marked)


# -- ends that are asked for -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plugins")
async def test_sigterm_drains_and_exits_with_zero(tmp_path: Path) -> None:
    limits = Limits(drain_s=0.5)
    with serving(config("paced", limits=limits), tmp_path) as served:
        watch = Watch(*served.workers)
        async with AsyncClient.connect(served.address) as client:
            stream = client.stream(speech())
            await anext(stream)
            served.signal(signal.SIGTERM)
            refused = []

            async def read_on() -> None:
                async for _ in stream:  # it runs on while the server drains, which takes nothing new
                    refused.append(await is_refused(client))

            with pytest.raises(RequestFailed) as caught:
                await read_on()
            assert any(refused)
            assert caught.value.failure.kind is FailureKind.SHUTTING_DOWN
        assert served.wait() == 0
        watch.wait_gone()
    assert sorted(file.name for file in tmp_path.iterdir() if "road" in file.name) == []


async def is_refused(client: AsyncClient) -> bool:
    """True once the server takes nothing new."""
    try:
        await anext(client.stream(speech()))
    except RequestFailed as problem:
        return problem.failure.kind is FailureKind.SHUTTING_DOWN
    return False


@pytest.mark.usefixtures("plugins")
def test_a_second_sigterm_ends_the_server_at_once(tmp_path: Path) -> None:
    with serving(config("paced", limits=Limits(drain_s=3600, retire_s=3600)), tmp_path) as served:
        watch = Watch(*served.workers)
        with Client.connect(served.address) as client:
            stream = iter(client.stream(speech()))
            next(stream)
            served.signal(signal.SIGTERM)
            next(stream)
            served.signal(signal.SIGTERM)
            with pytest.raises(RequestFailed):
                list(stream)
        assert served.wait() == 0
        watch.wait_gone()


def test_two_signals_that_are_read_together_are_two() -> None:
    readable, writable = os.pipe()
    try:
        stopping = Stopping(signals=readable)
        os.write(writable, b"\x0f\x0f")
        stopping.signalled(now=0.0, drain_s=10.0)
        assert stopping.over
    finally:
        os.close(readable)
        os.close(writable)


def test_an_address_in_use_is_refused_and_its_server_unharmed(tmp_path: Path) -> None:
    path = write(config(chunks=5, samples=100), tmp_path)
    with serving(config(chunks=5, samples=100), tmp_path) as served:
        command = [*MAXPIPE, "serve", str(path), "--address", served.address]
        second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert "in use by another server" in second.stderr
        with Client.connect(served.address) as client:
            assert client.generate(speech()).audio_data.size == 500
