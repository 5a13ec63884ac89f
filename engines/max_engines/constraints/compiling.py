"""Grammars become constraints, beside the work of the engine and never in its way."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque

from .grammar import Grammar
from .limits import DEFAULT_LIMITS, GrammarLimits
from .matching import CompiledGrammar, Masks, first_words
from .trial import Trial
from .vocabulary import Vocabulary


class _Job:
    """One grammar on its way; whoever asks for the same one shares it."""

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.waiters = 0
        self.compiled: CompiledGrammar | None = None
        self.reason: str | None = None
        self.forgotten_at = float("inf")

    @property
    def done(self) -> bool:
        return self.compiled is not None or self.reason is not None


class Compiling:
    """What `GrammarCompiler.submit` gives: one request's wait for its grammar."""

    def __init__(self, job: _Job, where: str, lock: threading.Lock) -> None:
        self._job = job
        self._where = where
        self._lock = lock
        self._waits = True

    def poll(self) -> CompiledGrammar | None:
        """The compiled grammar, or None as long as it is under way. ValueError: why it was refused. Never waits."""
        if self._job.reason is not None:
            raise ValueError(f"{self._where}: {self._job.reason}")
        return self._job.compiled

    def cancel(self) -> None:
        """This request waits no longer; a grammar that nobody waits for is not begun. Safe at any time, also twice."""
        with self._lock:
            if self._waits:
                self._waits = False
                self._job.waiters -= 1


class GrammarCompiler:
    """Compiles grammars for one vocabulary: each first in a process that can be killed, then here.

    What a grammar may cost is bounded by `limits`; one that hangs or dies in its trial is refused with the reason, and
    nobody else notices. Grammars are tried in the order in which they came, by one thread. All calls return at once
    but `wait` and `close`; one thread makes them.
    """

    def __init__(self, vocabulary: Vocabulary, limits: GrammarLimits = DEFAULT_LIMITS) -> None:
        self._vocabulary = vocabulary
        self._limits = limits
        self._masks = Masks(vocabulary)
        self._trial = Trial(limits)
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._progress = threading.Event()
        self._queue: deque[_Job] = deque()
        self._jobs: OrderedDict[Grammar, _Job] = OrderedDict()
        self._closed = False
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Read the vocabulary now. Else the first grammar does, and every thread of this process waits for it.

        With 128k tokens that takes 0.7 s. A tokenizer that cannot be used refuses each grammar, not this call.
        """
        with contextlib.suppress(ValueError):
            _ = self._vocabulary.text

    def submit(self, grammar: Grammar) -> Compiling:
        """Ask for a grammar. One that was compiled before is ready at once.

        ValueError: the model has no id that ends a text, so that a complete one could not end; or too many wait.
        """
        if not self._vocabulary.end_ids:
            raise ValueError(
                f"{grammar.where}: this model has no end-of-sequence id, which a grammar needs to end with"
            )
        with self._lock:
            if self._closed:
                raise ValueError(f"{grammar.where}: the compiler of grammars is closed")
            job = self._jobs.get(grammar)
            if job is None or job.forgotten_at < time.monotonic():
                job = self._enqueued(grammar)
            self._jobs.move_to_end(grammar)
            job.waiters += 1
        return Compiling(job, grammar.where, self._lock)

    @property
    def waiting(self) -> int:
        """How many grammars stand in line, the one that is being compiled not among them."""
        return len(self._queue)

    def wait(self, seconds: float) -> None:
        """Return when a grammar has come to its end since the last call, or after so long."""
        if self._progress.wait(seconds):
            self._progress.clear()

    def close(self) -> None:
        """End the trial's process and the thread. What is under way is refused. Safe at any time, also twice."""
        with self._lock:
            self._closed = True
            self._work.notify()
        self._trial.kill()
        if self._thread is not None:
            self._thread.join()

    def _enqueued(self, grammar: Grammar) -> _Job:
        """A new job at the end of the line."""
        for job in [job for job in self._queue if not job.waiters]:
            self._queue.remove(job)
            del self._jobs[job.grammar]
        if len(self._queue) >= self._limits.waiting:
            raise ValueError(
                f"{grammar.where}: {len(self._queue)} grammars wait to be compiled already; try again later"
            )
        job = self._jobs[grammar] = _Job(grammar)
        self._queue.append(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="grammars", daemon=True)
            self._thread.start()
        self._work.notify()
        return job

    def _run(self) -> None:
        """The thread: one job after the other."""
        try:
            while (job := self._next()) is not None:
                try:
                    self._compile(job)
                except Exception as problem:  # the request that asked gets it, and the next one its turn
                    job.reason = f"could not be compiled ({type(problem).__name__}: {problem})"
                self._finish()
        finally:
            self._trial.close()

    def _next(self) -> _Job | None:
        """The next job that someone waits for, when there is one; None at the end."""
        with self._lock:
            while not self._closed:
                while self._queue:
                    job = self._queue.popleft()
                    if job.waiters:
                        return job
                    self._jobs.pop(job.grammar, None)
                self._work.wait()
            for job in self._queue:
                job.reason = "the compiler of grammars was closed"
            return None

    def _compile(self, job: _Job) -> None:
        started = time.monotonic()
        reason = self._trial.refusal(job.grammar.source)
        if reason is not None:
            costly = time.monotonic() - started >= self._limits.compile_s / 2
            job.forgotten_at = time.monotonic() + self._limits.refused_s if costly else float("inf")
            job.reason = first_words(reason)
            return
        try:
            job.compiled = CompiledGrammar(job.grammar.source, self._vocabulary, self._masks, self._limits)
        except ValueError as problem:
            job.reason = str(problem)

    def _finish(self) -> None:
        """Remember the latest, and wake who waits."""
        with self._lock:
            done = [grammar for grammar, job in self._jobs.items() if job.done]
            for grammar in done[: max(0, len(done) - self._limits.kept)]:
                del self._jobs[grammar]
        self._progress.set()
