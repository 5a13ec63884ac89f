"""A process for work that may hang or take too much: it answers lines with lines, and can be killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable

START_S = 30.0  # to start Python; 0.1 s on a machine with nothing else to do
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY = b"ready\n"


class ProcessDied(RuntimeError):
    """The process gave no answer, and is no more. `late` says that its time was over."""

    def __init__(self, reason: str, *, late: bool) -> None:
        super().__init__(reason)
        self.late = late


class GuardedProcess:
    """`python -m MODULE`, started when first needed and again after it was killed. Its `main` is `serve_lines`.

    One thread asks and closes; that thread must live as long as the process, for on Linux the kernel kills it with the
    thread that started it. Another may kill.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()

    @property
    def pid(self) -> int | None:
        """Its id; None if it is not running."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start it, so that the first question does not wait for Python to start."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            if self._closing.is_set():
                raise ProcessDied("was closed", late=False)
            # -P: a file in the working folder must not shadow a package.
            command = [sys.executable, "-P", "-m", self._module]
            process = subprocess.Popen(  # it may be killed at any moment, and what it says of that is for nobody
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            os.set_blocking(process.stdin.fileno(), False)  # type: ignore[union-attr]
            self._process = process
            if self._closing.is_set() or _read_line(process, time.monotonic() + START_S) != READY:
                self.close()
                raise ProcessDied("did not start", late=False)

    def ask(self, line: bytes, seconds: float) -> bytes:
        """Its answer to a line. ProcessDied, and it is killed, if there is none in time."""
        self.start()
        process, deadline = self._process, time.monotonic() + seconds
        if process is None:
            raise ProcessDied("was closed", late=False)
        answer = _read_line(process, deadline) if _write(process, line + b"\n", deadline) else None
        if answer is None:
            code = _exit_status(process)
            late = code == -signal.SIGXCPU or time.monotonic() >= deadline
            self.close()
            raise ProcessDied("took too long" if late else f"ended with exit status {code}", late=late)
        return answer

    def kill(self) -> None:
        """End the process and start no other: whoever asks gets ProcessDied."""
        self._closing.set()
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Free the process. Safe at any time, also twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            process.wait()


def serve_lines(answer: Callable[[bytes], bytes], *, memory: int, seconds: float) -> None:
    """What such a process does: answer each line of standard input with one line, until that closes.

    It may take `memory` bytes in all, and for each line `seconds` of the processor's time. An answer that raises ends
    the process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))  # macOS knows this limit by name only
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _say([READY])
    for line in sys.stdin.buffer:
        _bound_time(seconds)
        _say([answer(line), b"\n"])


def _say(parts: Iterable[bytes]) -> None:
    sys.stdout.buffer.writelines(parts)
    sys.stdout.buffer.flush()


def _bound_time(seconds: float) -> None:
    """From now on so many seconds of the processor's time, rounded up; the kernel ends who takes more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _write(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> bool:
    """Write everything; False if the process is gone or does not read in time."""
    pipe, rest = process.stdin.fileno(), memoryview(data)  # type: ignore[union-attr]
    try:
        while rest and _ready(pipe, select.POLLOUT, deadline):
            rest = rest[os.write(pipe, rest) :]
    except OSError:
        return False
    return not rest


def _exit_status(process: subprocess.Popen[bytes]) -> int | None:
    """How it ended; None if it has not. It may be dying just now."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.1)
    return process.poll()


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """The next line; None if the process is gone or does not write it in time."""
    pipe, parts = process.stdout.fileno(), [b""]  # type: ignore[union-attr]
    while not parts[-1].endswith(b"\n"):
        if not _ready(pipe, select.POLLIN, deadline):
            return None
        more = os.read(pipe, 65_536)
        if not more:
            return None
        parts.append(more)
    return b"".join(parts)


def _ready(pipe: int, event: int, deadline: float) -> bool:
    """Wait until the pipe can be read or written; False when the time is over."""
    watched = select.poll()
    watched.register(pipe, event)
    return bool(watched.poll(max(0.0, deadline - time.monotonic()) * 1000))
