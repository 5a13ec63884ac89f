"""An event loop in a thread: what is begun has an end, also while the thread ends."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from max_interfaces import NotServing
from max_pipelines.client.loop_thread import LoopThread
from tests.pipelines.processes import PATIENCE_S


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_what_runs_when_it_ends_is_cancelled() -> None:
    thread = LoopThread("test")
    running = [thread.begin(for_ever()) for _ in range(3)]
    thread.stop()
    assert all(future.cancelled() for future in running)
    with pytest.raises(NotServing, match="closed"):
        thread.begin(for_ever())
    with pytest.raises(NotServing, match="closed"):
        thread.stop()


def test_what_is_begun_between_the_last_turn_and_the_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = LoopThread("test")
    close, late = thread.loop.close, []

    def closing() -> None:
        try:
            late.append(thread.begin(for_ever()))
        finally:
            close()

    monkeypatch.setattr(thread.loop, "close", closing)
    with pytest.raises(NotServing, match="closed"):
        thread.stop()
    assert not late


def test_whatever_other_threads_begin_meanwhile_has_an_end() -> None:
    def begin_all(thread: LoopThread) -> list[Future[None]]:
        begun = []
        with contextlib.suppress(NotServing):
            for _ in range(200):
                begun.append(thread.begin(for_ever()))
        return begun

    with ThreadPoolExecutor(3) as threads:
        for _ in range(20):
            thread = LoopThread("test")
            others = [threads.submit(begin_all, thread) for _ in range(3)]
            thread.stop()
            for future in [future for other in others for future in other.result(PATIENCE_S)]:
                with pytest.raises(CancelledError):
                    future.result(PATIENCE_S)
