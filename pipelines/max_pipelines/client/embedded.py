"""A server below the client: a process that ends with it, or threads of the same process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Protocol

import msgspec
import zmq

from max_interfaces import StartFailed

from ..address import IPC, InprocAddress, IpcAddress, ServerAddress, private_folder
from ..config import Config
from ..huge_pages import with_huge_pages
from ..problems import report
from ..security.client import connect

OnLost = Callable[[str], None]
STDERR = 2
CLOSE_S = 10.0  # what an embedded server gets to end its workers, before it is killed


class Embedded(Protocol):
    """A server that belongs to this client."""

    @property
    def address(self) -> ServerAddress:
        """Where it is."""
        ...

    def check(self) -> None:
        """StartFailed if it is no more."""
        ...

    def close(self) -> None:
        """End it and everything below it. Safe to call twice."""
        ...

    @property
    def left(self) -> list[str]:
        """Threads of this process that did not end when it was closed: they still use the context."""
        ...


class EmbeddedProcess:
    """A process of `max_pipelines.server`: our end of its standard input is its death pipe."""

    def __init__(self, config: Config) -> None:
        with ExitStack() as resources:
            folder = resources.enter_context(private_folder())
            path = folder / "config.yaml"
            path.write_bytes(msgspec.yaml.encode(config))
            self.address = IpcAddress(f"{IPC}{folder}/server")
            # -P: a file in the working folder must not shadow a package.
            command = [sys.executable, "-P", "-m", "max_pipelines.start", "max_pipelines.server", str(path)]
            command += ["--address", str(self.address), "--parent", str(os.getpid())]
            # What a server or a pipeline prints must not get into our standard output, which may be a stream of sound.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=STDERR, env=with_huge_pages())
            self._resources = resources.pop_all()

    def check(self) -> None:
        """StartFailed if the process has ended."""
        if self._process.poll() is not None:
            raise StartFailed(f"the embedded server ended with exit code {self._process.returncode}; see its output")

    def close(self) -> None:
        """Close the death pipe and wait; kill what does not end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._resources.close()

    @property
    def left(self) -> list[str]:
        """None: a process can be killed."""
        return []


class EmbeddedThreads:
    """Server and workers as threads, over inproc sockets. `on_lost` is called by the server's, should it fail."""

    def __init__(self, config: Config, context: zmq.Context[zmq.Socket[bytes]], on_lost: OnLost) -> None:
        from ..server.door import Door
        from ..server.launcher import ThreadLauncher
        from ..server.shell import Server
        from ..server.stopping import Stopping
        from ..worker.loop import run_worker

        self.address = InprocAddress(f"maxpipe-{uuid.uuid4().hex}")
        self._stop, self._held = os.pipe()
        address = self.address
        dial = partial(connect, address=address)
        self._launcher = ThreadLauncher(lambda name, stopped: run_worker(config, [dial], name, context, stopped))
        server = Server(
            config,
            Door(context, address.endpoint),
            self._launcher,
            Stopping(parents=(self._stop,)),
            linger_when_unfit=True,
        )

        def run() -> None:
            try:
                server.run()
            except Exception as problem:  # a process would be missed on its socket; a thread has to say it
                report(problem)
                on_lost(f"the server's thread failed with {type(problem).__name__}: {problem}")

        self._thread = threading.Thread(target=run, name="maxpipe-server", daemon=True)
        self._thread.start()  # an inproc:// address may be connected to before it is bound

    def check(self) -> None:
        """StartFailed if the server's thread has ended."""
        if not self._thread.is_alive():
            raise StartFailed("the embedded server's thread has ended; see its output")

    def close(self) -> None:
        """Close the death pipe and wait. What hangs is left behind."""
        if self._held < 0:
            return
        os.close(self._held)
        self._held = -1
        self._thread.join(CLOSE_S)
        if not self._thread.is_alive():  # or it would watch what is somebody else's file by then
            os.close(self._stop)

    @property
    def left(self) -> list[str]:
        """The server's thread, workers' threads: whichever hang."""
        return [self._thread.name] * self._thread.is_alive() + self._launcher.running


def start_embedded(config: Config, context: zmq.Context[zmq.Socket[bytes]], on_lost: OnLost) -> Embedded:
    """The kind of server that `workers.transport` asks for. `on_lost` may be called by another thread, with why."""
    if config.workers.transport == "thread":
        return EmbeddedThreads(config, context, on_lost)
    return EmbeddedProcess(config)
