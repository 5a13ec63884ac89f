"""`maxpipe serve` with its face: real processes, a real socket."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.pipelines.processes import MAXPIPE, children, command_of

EMBEDDED = Path(__file__).parents[3] / "configs" / "speech.yaml"


@dataclass
class Served:
    """A server that is ready, and where its face is."""

    process: subprocess.Popen[str]
    url: str

    @property
    def face(self) -> int:
        """The process id of its face."""
        return self._child("max_pipelines.http")

    @property
    def worker(self) -> int:
        """The process id of its only worker."""
        return self._child("max_pipelines.worker")

    def _child(self, module: str) -> int:
        (pid,) = (pid for pid in children(self.process.pid) if module in command_of(pid))
        return pid


@contextmanager
def serving_file(file: Path, *options: str) -> Iterator[Served]:
    """A server of a config, ready."""
    with subprocess.Popen([*MAXPIPE, "serve", str(file), *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = next(match for line in process.stdout if (match := re.search(r"over HTTP at (\S+)", line)))
            yield Served(process, found[1])
        finally:
            process.kill()
