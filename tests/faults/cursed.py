"""A speech pipeline that does harm when it is told to, in worker processes of the usual kind.

A file named by a process id and holding a word curses that worker's next step: `spin`, `sleep`, `exit`. Some words in a
text curse its request: `xkill` kills each worker at its first step, `xspin` hangs it there, `xraise` makes each step
raise that has it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.pipelines.processes import install

SOURCE = """
import os, signal, time
from dataclasses import replace
from pathlib import Path
from max_pipelines.speech.build import build

FOLDER = Path(os.environ["MAXPIPE_CURSES"])

class Cursed:
    def __init__(self, inner):
        self.inner = inner
        self.texts = {}

    def admit(self, attempt):
        self.inner.admit(attempt)
        self.texts[attempt.request.request_id] = attempt.request.input or ""

    def execute(self, active):
        self.obey()
        texts = [self.texts.get(request_id, "") for request_id in active]
        if any("xkill" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        while any("xspin" in text for text in texts):
            pass
        if any("xraise" in text for text in texts):
            raise RuntimeError("cursed")
        return self.inner.execute(active)

    def release(self, request_id):
        self.texts.pop(request_id, None)
        self.inner.release(request_id)

    def obey(self):
        try:
            curse = (FOLDER / str(os.getpid())).read_text()
        except FileNotFoundError:
            return
        (FOLDER / str(os.getpid())).unlink()
        if curse == "spin":
            while True:
                pass
        if curse == "sleep":
            time.sleep(10)
        if curse == "exit":
            os._exit(1)

def cursed(config):
    served = build(config)
    return replace(served, pipeline=Cursed(served.pipeline))
"""


class Curses:
    """Puts curses on workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, pid: int, curse: str) -> None:
        """The worker's next step does this."""
        written = self._folder / f"{pid}.new"
        written.write_text(curse)
        os.replace(written, self._folder / str(pid))  # whole or not at all


@pytest.fixture
def curses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curses:
    """`pipeline.kind: cursed`, for every process that is started from here on."""
    install(tmp_path / "site", "cursed_speech", SOURCE, "[maxpipe.pipelines]\ncursed = cursed_speech:cursed\n")
    folder = tmp_path / "curses"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.setenv("MAXPIPE_CURSES", str(folder))
    return Curses(folder)
