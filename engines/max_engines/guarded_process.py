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
BUSY = 3  # the process ends itself by the processor's time; by the clock it gets more, others may be at work too
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY = b"ready\n"


class ProcessDied(RuntimeError):
    """The process gave no answer, and is no more. `late` says that its time was over, `aborted` that it gave up.

    What is written in Rust gives up when it runs out of memory; Python says so and goes on.
    """

    def __init__(self, reason: str, *, late: bool = False, aborted: bool = False) -> None:
        super().__init__(reason)
        self.late = late
        self.aborted = aborted


class GuardedProcess:
    """`python -m MODULE ARGUMENTS`, started when first needed and again after it was killed. It calls `serve_lines`.

    One thread asks and closes; that thread must live as long as the process, for on Linux the kernel kills it with the
    thread that started it. Another may kill.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-P", "-m", module, *arguments]  # -P: no file here may shadow a package
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
                raise ProcessDied("was closed")
            process = subprocess.Popen(  # it may be killed at any moment, and what it says of that is for nobody
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            os.set_blocking(process.stdin.fileno(), False)  # type: ignore[union-attr]
            self._process = process
            if self._closing.is_set() or _read_line(process, time.monotonic() + START_S) != READY:
                self.close()
                raise ProcessDied("did not start")

    def ask(self, line: bytes, seconds: float) -> bytes:
        """Its answer to a line, for which it may take `seconds` of the processor's time, as it was told itself.

        ProcessDied, and it is killed, if there is none in time.
        """
        self.start()
        process, deadline = self._process, time.monotonic() + seconds * BUSY
        if process is None:
            raise ProcessDied("was closed")
        answer = _read_line(process, deadline) if _write(process, line + b"\n", deadline) else None
        if answer is None:
            code = _exit_status(process)
            late = code in (None, -signal.SIGPROF)
            self.close()
            reason = "took too long" if late else f"ended with exit status {code}"
            raise ProcessDied(reason, late=late, aborted=code == -signal.SIGABRT)
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
        signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor's time; then SIGPROF ends us
        answered = answer(line)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _say([answered, b"\n"])


def _say(parts: Iterable[bytes]) -> None:
    sys.stdout.buffer.writelines(parts)
    sys.stdout.buffer.flush()


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
