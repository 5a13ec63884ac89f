"""Clients and workers that come over tcp, with keys; a worker that serves two dispatchers; dispatchers that go."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from max_interfaces import ConfigError, NotServing, RequestFailed, RequestOptions, StartFailed
from max_interfaces.messages import Report
from max_pipelines.client import AsyncClient
from max_pipelines.config import TcpConfig
from max_pipelines.security.allowed import Role
from max_pipelines.security.folder import KeyFolder
from tests.pipelines.processes import MAXPIPE, PATIENCE_S, config, plugins, serving, speech, write

__all__ = ["plugins"]

pytestmark = pytest.mark.usefixtures("plugins")


@dataclass
class Host:
    """A server that listens on tcp, and the folder of its keys."""

    process: subprocess.Popen[str]
    local: str
    public: str
    keys: KeyFolder

    def admit(self, folder: Path, name: str, role: Role = Role.CLIENT) -> Path:
        """Let a new key in; the folder that it is in."""
        guest = KeyFolder(folder / f"{name}-keys")
        self.keys.allow_list().allow(guest.create().public, role, name)
        return guest.path


@contextmanager
def host(folder: Path, name: str) -> Iterator[Host]:
    """`maxpipe serve` of the paced pipeline, ready, with one worker of its own."""
    home = folder / name
    home.mkdir()
    keys = KeyFolder(home / "keys")
    keys.create()
    tcp = TcpConfig(listen="tcp://127.0.0.1:0", keys=str(keys.path))
    file = write(msgspec.structs.replace(config("paced", places=4), tcp=tcp), home)
    local = f"ipc://{home}/road"
    with subprocess.Popen([*MAXPIPE, "serve", str(file), "--address", local], stdout=subprocess.PIPE, text=True) as run:
        try:
            lines = iter(run.stdout.readline, "") if run.stdout else iter(())
            public = next(line.split(" at ")[-1].strip() for line in lines if "other hosts" in line)
            yield Host(run, local, public, keys)
        finally:
            run.kill()


@contextmanager
def worker(folder: Path, keys: Path, *addresses: str) -> Iterator[subprocess.Popen[str]]:
    """`maxpipe worker`, which has loaded."""
    connects = [word for address in addresses for word in ("--connect", address)]
    file = write(config("paced", places=4), folder)
    command = [*MAXPIPE, "worker", str(file), *connects, "--keys", str(keys), "--name", "guest"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            assert "has loaded" in run.stdout.readline()
            yield run
        finally:
            run.kill()


async def until(client: AsyncClient, holds: object) -> Report:
    """Ask how the server is until it is so."""
    assert callable(holds)
    async with asyncio.timeout(PATIENCE_S):
        while not holds(report := await client.report()):
            await asyncio.sleep(0.05)
    return report


def guests(report: Report) -> int:
    return sum(one.name == "guest" and one.ready for one in report.workers)


def running(report: Report, name: str) -> int:
    return sum(one.running for one in report.workers if one.name == name)


async def test_a_client_and_a_worker_of_other_hosts(tmp_path: Path) -> None:
    with host(tmp_path, "a") as a:
        client_keys = a.admit(tmp_path, "client")
        worker_keys = a.admit(tmp_path, "worker", Role.WORKER)
        async with AsyncClient.connect(a.public, client_keys) as client:
            with worker(tmp_path, worker_keys, a.public) as guest:
                await until(client, guests)
                streams = [client.stream(speech()) for _ in range(8)]
                for stream in streams:
                    assert (await anext(stream)).metadata.chunk_id == 0
                assert running(await client.report(), "guest") == 4
                guest.send_signal(signal.SIGTERM)  # it leaves: what it had goes on elsewhere, or waits for that
                assert guest.wait(PATIENCE_S) == 0
                await until(client, lambda report: not guests(report))
            report = await client.report()
            assert (report.gauges["requests"], report.gauges["waiting"]) == (8, 4)
            for stream in streams[:4]:
                await stream.aclose()
            for stream in streams[4:]:  # all eight are still one unbroken sound each
                assert (await anext(stream)).metadata.chunk_id == 1


async def test_who_has_no_key_or_only_a_clients_gets_nowhere(tmp_path: Path) -> None:
    with host(tmp_path, "a") as a:
        stranger = KeyFolder(tmp_path / "stranger")
        stranger.create()
        with pytest.raises(ConfigError, match="keys new"):
            AsyncClient.connect(a.public, tmp_path / "nowhere")
        with pytest.raises((NotServing, StartFailed), match=r"does not let our key in|ended the handshake"):
            async with AsyncClient.connect(a.public, stranger.path):
                pass
        with pytest.raises(ConfigError, match="key is missing"):
            AsyncClient.connect(a.public.partition("#")[0], stranger.path)
        client_keys = a.admit(tmp_path, "client")
        async with AsyncClient.connect(a.local) as client:
            before = (await client.report()).gauges["unreadable"]
            with worker(tmp_path, client_keys, a.public):
                await until(client, lambda report: report.gauges["unreadable"] > before)
                assert not guests(await client.report())


async def test_a_key_that_is_removed_ends_what_it_had(tmp_path: Path) -> None:
    with host(tmp_path, "a") as a:
        keys = a.admit(tmp_path, "client")
        async with AsyncClient.connect(a.public, keys) as client, AsyncClient.connect(a.local) as local:
            stream = client.stream(speech())
            await anext(stream)
            a.keys.allow_list().revoke("client")
            with pytest.raises(RequestFailed):
                async for _ in stream:
                    pass
            await until(local, lambda report: not report.gauges["requests"])


async def test_a_worker_of_two_dispatchers_goes_where_the_work_is_and_a_lost_one_frees_it(tmp_path: Path) -> None:
    with host(tmp_path, "a") as a, host(tmp_path, "b") as b:
        keys = a.admit(tmp_path, "worker", Role.WORKER)
        b.keys.allow_list().allow(KeyFolder(keys).load().public, Role.WORKER, "worker")
        async with AsyncClient.connect(a.local) as at_a, AsyncClient.connect(b.local) as at_b:
            with worker(tmp_path, keys, a.public, b.public):
                await until(at_a, guests)
                await until(at_b, guests)
                options = RequestOptions(deadline_s=600)
                crowd = [asyncio.ensure_future(at_a.generate(speech(), options)) for _ in range(10)]
                await until(at_a, lambda report: running(report, "guest") >= 3)  # all but the one that is b's
                one = at_b.stream(speech())
                await anext(one)
                a.process.kill()
                outcomes = await asyncio.gather(*crowd, return_exceptions=True)
                assert all(isinstance(outcome, RequestFailed) for outcome in outcomes)
                more = [at_b.stream(speech()) for _ in range(7)]
                for stream in more:  # with b's own worker there is room for eight, once a's share is free
                    await anext(stream)
                assert running(await at_b.report(), "guest") == 4


async def test_a_worker_of_two_dispatchers_outlives_the_orderly_restart_of_each(tmp_path: Path) -> None:
    homes = tmp_path / "a", tmp_path / "b"
    for home in homes:
        home.mkdir()
    settings = config("paced", places=4)
    with (
        serving(settings, homes[0]) as a,
        serving(settings, homes[1]) as b,
        worker(tmp_path, tmp_path / "none", a.address, b.address) as guest,
    ):
        for server in (a, b):
            async with AsyncClient.connect(server.address) as client:
                await until(client, guests)
        a.signal(signal.SIGTERM)
        assert a.wait() == 0
        with serving(settings, homes[0]) as new_a:
            async with AsyncClient.connect(new_a.address) as client:
                await until(client, guests)
            b.signal(signal.SIGTERM)
            assert b.wait() == 0
            with serving(settings, homes[1]) as new_b:
                async with AsyncClient.connect(new_b.address) as client:
                    await until(client, guests)
                    for stream in [client.stream(speech()) for _ in range(5)]:  # one more than its own can take
                        await anext(stream)
                for server in (new_a, new_b):
                    assert guest.poll() is None
                    server.signal(signal.SIGTERM)
                    assert server.wait() == 0
                assert guest.wait(PATIENCE_S) == 0  # nobody is left that it could serve


async def test_a_worker_goes_on_with_a_dispatcher_that_was_started_again(tmp_path: Path) -> None:
    with serving(config("paced", places=4), tmp_path) as first, worker(tmp_path, tmp_path / "none", first.address):
        async with AsyncClient.connect(first.address) as client:
            await until(client, guests)
        first.process.kill()
        first.wait()
        with serving(config("paced", places=4), tmp_path) as second:
            async with AsyncClient.connect(second.address) as client:
                await until(client, guests)
                for stream in [client.stream(speech()) for _ in range(8)]:
                    await anext(stream)
