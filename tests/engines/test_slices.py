"""Work in slices: one turn at a time, its result or its error at the end, and nothing left when it is given up."""

from __future__ import annotations

import threading

import pytest

from max_engines.media.slices import Pause, Slices


def counting(seen: list[str], steps: int, ended: list[str]) -> Slices[int]:
    """Notes in whose turn it runs."""

    def work(pause: Pause) -> int:
        try:
            for step in range(steps):
                seen.append(f"work {step}")
                if pause.due:
                    pause.rest()
        finally:
            ended.append(threading.current_thread().name)
        return steps

    return Slices(work)


def test_it_runs_within_turns_alone() -> None:
    seen: list[str] = []
    slices = counting(seen, 3, [])
    while not slices.advance(0):
        seen.append("others")
    assert seen == ["work 0", "others", "work 1", "others", "work 2", "others"]
    assert slices.advance(0)


def test_without_a_bound_it_is_done_at_once() -> None:
    seen: list[str] = []
    assert counting(seen, 3, []).advance(60)
    assert len(seen) == 3


def test_its_error_is_raised_by_each_turn_from_then_on() -> None:
    def work(pause: Pause) -> int:
        pause.rest()
        raise ValueError("bad")

    slices = Slices(work)
    assert not slices.advance(0)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            slices.advance(0)
    slices.close()


def test_a_thread_that_cannot_start_is_waited_for_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    slices = counting([], 1, [])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        with pytest.raises(RuntimeError, match="start new thread"):
            slices.advance(0)
    slices.close()
    assert slices.advance(60)


def test_who_gives_it_up_ends_it() -> None:
    seen: list[str] = []
    ended: list[str] = []
    slices = counting(seen, 3, ended)
    slices.close()  # before it began
    assert not slices.advance(0)
    slices.close()
    slices.close()
    assert (seen, ended) == (["work 0"], ["encoders"])
