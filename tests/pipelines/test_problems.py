"""A log that cannot be written is nobody's end."""

from __future__ import annotations

import contextlib
import io
import sys

import pytest

from max_pipelines.problems import complain, report


@pytest.mark.parametrize("kind", ["full", "closed", "none"])
def test_whatever_has_become_of_the_log(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:  # to close it is to write it
        closed = io.StringIO()
        closed.close()
        monkeypatch.setattr(sys, "stderr", {"full": full, "closed": closed, "none": None}[kind])
        complain("a line")
        report(ZeroDivisionError("a story"))
    assert capsys.readouterr() == ("", "")


def test_a_log_has_the_line_and_the_whole_story(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a line")
    try:
        raise ZeroDivisionError("a story")
    except ZeroDivisionError as problem:
        report(problem)
    line, *story = capsys.readouterr().err.splitlines()
    assert line == "maxpipe: a line"
    assert story[0] == "Traceback (most recent call last):"
    assert story[-1] == "ZeroDivisionError: a story"
