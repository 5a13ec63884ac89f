"""Lines that are written by a thread of their own: who reads the log slowly, or not at all, stops nobody's sound."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading

MAX_WAITING = 4096  # lines
LAST_S = 0.5  # what writing the rest may take at the end


class Lines(logging.Handler):
    """Writes each record as a line to a descriptor. What is more than `most` is dropped and counted.

    A line is one write, so that those of several processes do not mingle.
    """

    def __init__(self, descriptor: int, most: int = MAX_WAITING) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._waiting: queue.Queue[bytes | None] = queue.Queue(most)
        self._dropped = 0
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits, and never raises."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
        except Exception:  # a record whose arguments do not fit its text is somebody's mistake, not worth a request
            line = f"a log record of {record.name} cannot be formatted\n".encode()
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, within a moment."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._writer.join(LAST_S)
        super().close()

    def _write_all(self) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            while (line := self._waiting.get()) is not None:
                self._write(line)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    record = logging.makeLogRecord(
                        {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
                        | {"msg": "%d lines of the log were dropped", "args": (dropped,)}
                    )
                    self._write(self.format(record).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]
