"""Compiling a grammar where it can do no harm first."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict

from .limits import GrammarLimits

START_S = 30.0  # to start Python; 0.1 s on a machine with nothing else to do
BUSY = 3  # the process ends itself by the processor's time; by the clock it gets more, others may be at work too
MIB = 2**20


class Trial:
    """A process that tries grammars, one at a time, started when first needed and again after it was killed.

    One thread calls `refusal` and `close`; that thread must live as long as the trial, for on Linux the kernel kills
    the process with the thread that started it. Another may call `kill`.
    """

    def __init__(self, limits: GrammarLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()

    def refusal(self, source: str) -> str | None:
        """None if the grammar compiles within the limits, else the reason."""
        process = self._running()
        if process is None:
            return "the process that compiles grammars did not start"
        deadline = time.monotonic() + self._limits.compile_s * BUSY
        if not _write(process, json.dumps(source).encode() + b"\n", deadline):
            return self._killed(process)
        answer = _read_line(process, deadline)
        if answer is None:
            return self._killed(process)
        reason = json.loads(answer)
        return None if reason is None else str(reason)

    def kill(self) -> None:
        """End the process and start no other: `refusal` returns at once."""
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

    def _running(self) -> subprocess.Popen[bytes] | None:
        if self._process is None or self._process.poll() is not None:
            self.close()
            limits = json.dumps(asdict(self._limits))
            # -P: a file in the working folder must not shadow a package.
            command = [sys.executable, "-P", "-m", "max_engines.constraints.trial_process", limits]
            process = subprocess.Popen(  # what Rust says when it runs out of memory is for nobody
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            os.set_blocking(process.stdin.fileno(), False)  # type: ignore[union-attr]
            self._process = process
            if self._closing.is_set() or _read_line(process, time.monotonic() + START_S) is None:
                self.close()
        return self._process

    def _killed(self, process: subprocess.Popen[bytes]) -> str:
        """What became of a process that did not answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)  # it may be dying, and then why is worth knowing
        code = process.poll()
        self.close()
        if code is None or code == -signal.SIGPROF:
            return f"takes longer than {self._limits.compile_s:g} s to compile"
        if code == -signal.SIGABRT:
            return f"takes more than {self._limits.compile_bytes // MIB} MiB to compile"
        return f"ended the process that compiled it (exit status {code})"


def _write(process: subprocess.Popen[bytes], data: bytes, deadline: float) -> bool:
    """Write everything; False if the process is gone or does not read in time."""
    pipe = process.stdin.fileno()  # type: ignore[union-attr]
    try:
        while data and _ready(pipe, select.POLLOUT, deadline):
            data = data[os.write(pipe, data) :]
    except OSError:
        return False
    return not data


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """The next line; None if the process is gone or does not write it in time."""
    pipe, read = process.stdout.fileno(), b""  # type: ignore[union-attr]
    while not read.endswith(b"\n"):
        if not _ready(pipe, select.POLLIN, deadline):
            return None
        more = os.read(pipe, 65_536)
        if not more:
            return None
        read += more
    return read


def _ready(pipe: int, event: int, deadline: float) -> bool:
    """Wait until the pipe can be read or written; False when the time is over."""
    watched = select.poll()
    watched.register(pipe, event)
    return bool(watched.poll(max(0.0, deadline - time.monotonic()) * 1000))
