"""A contender's process, from this end: started, asked, ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from .contender import Contender, environment
from .messages import Answer, Facts, Job, Setup
from .process_tree import cpu_seconds, forget_peaks, peak_bytes, tree

START_S = 600.0  # vLLM compiles for a minute and more
END_S = 15.0
EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")  # as the last line of a traceback begins
LONGEST_REASON = 200  # characters
MessageT = TypeVar("MessageT", Facts, Answer)


class ContenderError(Exception):
    """A contender cannot take part, or not go on; the reason, in one line."""


@dataclass(frozen=True, slots=True)
class Measured:
    """An answer, and what it has cost the contender's processes."""

    answer: Answer
    cpu_s: float | None
    peak_bytes: int | None


class Running:
    """A contender whose process runs: a context manager, which ends it. ContenderError if it does not start."""

    def __init__(self, contender: Contender, setup: Setup, processors: frozenset[int], log: Path) -> None:
        if not contender.command[0]:
            raise ContenderError("no environment with vLLM was named (--vllm)")
        self._log = log
        self._failed: str | None = None
        command = [*contender.command, msgspec.json.encode(setup).decode()]
        with _on(processors), log.open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=environment(contender, setup, processors),
                    start_new_session=True,  # so that its own processes can be ended with it
                )
            except OSError as problem:
                raise ContenderError(f"{command[0]}: {problem.strerror}") from problem
        try:
            self.facts = self._read(Facts, START_S)
        except BaseException:
            self._end()
            raise

    def ask(self, job: Job, limit_s: float) -> Measured:
        """Run a job. ContenderError if it fails or takes longer than `limit_s`."""
        processes = tree(self._process.pid)
        forget_peaks(processes)
        before = cpu_seconds(processes)
        self._write(msgspec.json.encode(job) + b"\n")
        answer = self._read(Answer, limit_s)
        after = cpu_seconds(processes)
        if [len(times) for times in answer.arrivals] != [job.new_tokens] * len(job.prompts):
            raise ContenderError(f"it did not give {job.new_tokens} tokens for each of {len(job.prompts)} requests")
        spent = None if before is None or after is None else after - before
        return Measured(answer, spent, peak_bytes(processes))

    def _write(self, line: bytes) -> None:
        if self._failed is not None or self._process.stdin is None:
            raise ContenderError(self._failed or "it has no standard input")
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except OSError as problem:
            raise self._failure() from problem

    def _read(self, kind: type[MessageT], limit_s: float) -> MessageT:
        if self._process.stdout is None:
            raise ContenderError("it has no standard output")
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self._kill()

        watchdog = threading.Timer(limit_s, give_up)
        watchdog.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise self._failure(f"no answer within {limit_s:g} s" if late.is_set() else None)
        return msgspec.json.decode(line, type=kind)

    def _failure(self, reason: str | None = None) -> ContenderError:
        """It is out for good: for the reason given, or for the last exception that it wrote about."""
        self._ended()
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if EXCEPTION.match(line)] or lines
        last = said[-1][:LONGEST_REASON] if said else f"it ended with code {self._process.returncode} and said nothing"
        self._failed = reason or last
        return ContenderError(self._failed)

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _end(self) -> None:
        """Close its input, which tells it to end."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it did not read is lost, and so be it
                    pipe.close()
        self._ended()

    def _ended(self) -> None:
        """Wait until it has ended by itself, having said why, and then end whatever is left of it."""
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            self._process.wait()

    def __enter__(self) -> Running:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


def available_processors(threads: int) -> frozenset[int]:
    """One for each of the model's threads and one for everything else, if there are so many; none if unknown."""
    if sys.platform != "linux":
        return frozenset()
    return frozenset(sorted(os.sched_getaffinity(0))[: threads + 1])


@contextmanager
def _on(processors: frozenset[int]) -> Iterator[None]:
    """What is started in here may use these processors only."""
    if sys.platform != "linux" or not processors:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
