"""Starting workers: in a process each, or in threads of this one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from ..huge_pages import with_huge_pages

STDERR = 2
REAP_S = 5.0  # from the end of a worker's pipe, or the call to end, to the end of the worker


class WorkerHandle(Protocol):
    """One started worker. `fileno` becomes readable when it has ended."""

    name: str

    def fileno(self) -> int:
        """A descriptor to poll."""
        ...

    def reason(self) -> str:
        """How it ended, as the end of a sentence that begins with its name."""
        ...

    def ask(self) -> None:
        """Let it end by itself. Safe at any time."""
        ...

    def kill(self) -> None:
        """End it now, if that can be done. Safe at any time."""
        ...

    def close(self) -> None:
        """Free what watching it took."""
        ...


class Launcher(Protocol):
    """Where workers come from."""

    def spawn(self, name: str) -> WorkerHandle:
        """Start a worker that will call itself `name`. OSError or RuntimeError if the system cannot have one more."""
        ...


class ProcessLauncher:
    """Workers, processes of `max_pipelines.worker`: nothing of the user's `__main__` is imported."""

    def __init__(self, config_path: Path, address: str) -> None:
        self._config_path = config_path
        self._address = address

    def spawn(self, name: str) -> WorkerHandle:
        """Start the process."""
        arguments = [str(self._config_path), "--connect", self._address, "--name", name]
        return start_process(name, "max_pipelines.worker", arguments)


class FaceLauncher:
    """Faces, processes of `max_pipelines.http`. The sockets that they listen on outlive each of them.

    `listening` has them by what is spoken there, `http` or `wyoming`.
    """

    def __init__(self, config_path: Path, address: str, listening: Mapping[str, sockets.socket]) -> None:
        self._config_path = config_path
        self._address = address
        self._listening = listening

    def spawn(self, name: str) -> WorkerHandle:
        """Start the process."""
        arguments = [str(self._config_path), "--connect", self._address]
        numbers = {protocol: socket.fileno() for protocol, socket in self._listening.items()}
        for protocol, number in numbers.items():
            arguments += [f"--{protocol}", str(number)]
        return start_process(name, "max_pipelines.http", arguments, *numbers.values())


def start_process(name: str, module: str, arguments: list[str], *inherited: int) -> ProcessHandle:
    """Run a module of ours. Its standard input is the death pipe: it ends when we are gone."""
    life, held_by_child = os.pipe()
    # -P: a file in the working folder must not shadow a package.
    command = [sys.executable, "-P", "-m", "max_pipelines.start", module, *arguments, "--supervised"]
    try:
        # Whatever a pipeline prints must not get into our own standard output, which may be a stream of sound.
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=STDERR,
            pass_fds=(held_by_child, *inherited),
            env=with_huge_pages(),
        )
    except OSError:
        os.close(life)
        raise
    finally:
        os.close(held_by_child)
    return ProcessHandle(name, process, life)


class ProcessHandle:
    """A worker process; `life` is a pipe that closes when it ends."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], life: int) -> None:
        self.name = name
        self.process = process
        self._life = life

    def fileno(self) -> int:
        """Readable (end of file) once the process is gone."""
        return self._life

    def reason(self) -> str:
        """For example `was killed by SIGKILL`."""
        try:
            code = self.process.wait(timeout=REAP_S)
        except subprocess.TimeoutExpired:  # it has closed the pipe, but does not end
            self.process.kill()
            code = self.process.wait()
        if code >= 0:
            return f"exited with code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:  # most real-time signals have no name
            return f"was killed by signal {-code}"

    def ask(self) -> None:
        """SIGTERM."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()

    def kill(self) -> None:
        """SIGKILL: nothing in the process can delay it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Close the pipes and reap the process, which has ended or been killed."""
        os.close(self._life)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


class ThreadLauncher:
    """Workers as threads of this process, over inproc sockets: the public fake, and the mode for Python callables."""

    def __init__(self, run_worker: Callable[[str, Callable[[], bool]], object]) -> None:
        self._run_worker = run_worker  # (name, whether it was told to stop)
        self._threads: list[threading.Thread] = []

    @property
    def running(self) -> list[str]:
        """The names of those that have not ended."""
        return [thread.name for thread in self._threads if thread.is_alive()]

    def spawn(self, name: str) -> WorkerHandle:
        """Start the thread."""
        handle = ThreadHandle(name)

        def run() -> None:
            try:
                self._run_worker(name, handle.stopped.is_set)
            except Exception as problem:  # the thread's last words; a process would have its exit code
                handle.problem = f"ended with {type(problem).__name__}: {problem}"
            finally:
                handle.ended()

        thread = threading.Thread(target=run, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            handle.ended()
            handle.close()
            raise
        handle.thread = thread
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        return handle


class ThreadHandle:
    """A worker thread. It cannot be killed, only asked to end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._life, self._held = os.pipe()
        self.problem = "ended"
        self.thread: threading.Thread | None = None
        self.stopped = threading.Event()

    def ended(self) -> None:
        """Called by the thread as its last act."""
        os.close(self._held)

    def fileno(self) -> int:
        """Readable (end of file) once the thread is done."""
        return self._life

    def reason(self) -> str:
        """What ended it."""
        return self.problem

    def ask(self) -> None:
        """It looks between two steps, and once it has loaded."""
        self.stopped.set()

    def kill(self) -> None:
        """A thread can only be asked."""
        self.ask()

    def close(self) -> None:
        """Wait for the thread, which has ended or been asked to; close the pipe.

        A thread that runs torch while Python ends takes the process down. One that hangs is not waited for.
        """
        if self.thread is not None:
            self.thread.join(REAP_S)
        os.close(self._life)
