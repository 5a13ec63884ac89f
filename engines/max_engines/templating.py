"""Chat templates filled in beside the work of the engine: a hostile one costs its own request and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from .guarded_process import GuardedProcess, ProcessDied
from .template_terms import MAX_TEXT, RENDER_S


class Rendering:
    """One conversation on its way to become a text."""

    def __init__(self, future: Future[str]) -> None:
        self._future = future

    @property
    def done(self) -> bool:
        """True when `poll` has an answer."""
        return self._future.done()

    def poll(self) -> str | None:
        """The text, or None as long as it is under way. ValueError: why there is none. Never waits."""
        return self._future.result() if self._future.done() else None

    def wait(self, seconds: float) -> None:
        """Return when it is done, or after so long."""
        wait([self._future], timeout=seconds)

    def cancel(self) -> None:
        """Nobody waits any more. Safe at any time."""
        self._future.cancel()


class TemplateRenderer:
    """Fills in templates one after the other, in a process that is killed when one takes too long or too much."""

    def __init__(self) -> None:
        self._process = GuardedProcess("max_engines.template_process")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="templates")

    @property
    def pid(self) -> int | None:
        """The process's id; None if it is not running."""
        return self._process.pid

    def start(self) -> None:
        """Start the process; does not wait for it."""
        self._thread.submit(self._process.start)

    def submit(self, template: str, values: Mapping[str, Any]) -> Rendering:
        """Ask for the text of a conversation: see `chat_template.render`. ValueError for one that is too long."""
        line = json.dumps([template, dict(values)]).encode()
        if len(line) > 8 * MAX_TEXT:  # JSON writes some characters with several
            raise ValueError(f"messages: have more than {MAX_TEXT} characters in all")
        return Rendering(self._thread.submit(self._ask, line))

    def close(self) -> None:
        """End the process and the thread. What is under way is refused. Safe at any time, also twice."""
        self._process.kill()
        self._thread.shutdown(cancel_futures=True)
        self._process.close()

    def _ask(self, line: bytes) -> str:
        try:
            text, reason = json.loads(self._process.ask(line, RENDER_S))
        except ProcessDied as problem:
            limit = f"took longer than {RENDER_S:g} s" if problem.late else f"could not be filled in: {problem}"
            raise ValueError(f"chat_template: {limit}") from None
        if text is None:
            raise ValueError(f"chat_template: {reason}")
        return str(text)
