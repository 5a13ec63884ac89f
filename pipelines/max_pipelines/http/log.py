"""The face's log: a line for each request that has ended, and each warning, with the id of the request it belongs to.

Lines never have a body, a text, a key or a query in them; of an exception they have its type and where it was raised,
but not its message, which may quote what was asked.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

from ..config import HttpConfig
from .exchange import Exchange, current
from .json import encode
from .lines import Lines
from .observing import requests

DEEPEST = 8  # exceptions that led to one another
SELDOM_S = 60.0  # how often somebody else's library may repeat itself


@contextlib.contextmanager
def logging_to_stderr(config: HttpConfig) -> Iterator[None]:
    """Let this process's log go to standard error, as `log` says. With `none` only warnings and errors do, as text."""
    lines = Lines(sys.stderr.fileno())
    lines.setFormatter(JsonLine() if config.log == "json" else TextLine())
    lines.addFilter(Seldom("opentelemetry"))
    root = logging.getLogger()
    root.addHandler(lines)
    requests.setLevel(logging.CRITICAL + 1 if config.log == "none" else logging.INFO)
    try:
        yield
    finally:
        requests.setLevel(logging.NOTSET)
        root.removeHandler(lines)
        lines.close()


class JsonLine(logging.Formatter):
    """A record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Its line."""
        fields: dict[str, object] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        exchange = _exchange(record)
        if exchange is not None:
            fields["request_id"] = exchange.request_id
            if exchange.trace_id:
                fields["trace_id"] = exchange.trace_id
            if record.name == requests.name:
                fields |= _told(exchange)
        if record.exc_info:
            fields["exception"] = _trace(record.exc_info[1])
        return encode(fields).decode()


class TextLine(logging.Formatter):
    """A record for who reads along: one line, and where an exception was raised below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Its line."""
        exchange = _exchange(record)
        if exchange is not None and record.name == requests.name:
            return f"{_time(record.created)} {_summary(exchange)}"
        where = "" if exchange is None else f" [{exchange.request_id}]"
        trace = f"\n{_trace(record.exc_info[1])}" if record.exc_info else ""
        return f"{_time(record.created)} {record.levelname.lower()}: {record.getMessage()}{where}{trace}"


class Seldom(logging.Filter):
    """Lets the loggers below a name say the same once in a while only: a collector that is away is away for long."""

    def __init__(self, below: str, seconds: float = SELDOM_S) -> None:
        super().__init__()
        self._below = below
        self._seconds = seconds
        self._said: dict[str, float] = {}  # by what a library says, of which there is a handful

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is told."""
        if not record.name.startswith(self._below):
            return True
        kind = str(record.msg)[:64]
        if record.created - self._said.get(kind, -self._seconds) < self._seconds:
            return False
        if len(self._said) > 256:
            self._said.clear()
        self._said[kind] = record.created
        return True


def _exchange(record: logging.LogRecord) -> Exchange | None:
    exchange = getattr(record, "exchange", None)
    return exchange if isinstance(exchange, Exchange) else current()


def _told(exchange: Exchange) -> dict[str, object]:
    fields: dict[str, object] = {
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status or None,
        "duration_s": round(exchange.took_s, 6),
        "bytes_sent": exchange.bytes_sent,
        "client_left": exchange.client_left,
    }
    return fields | ({"error_type": exchange.error_type} if exchange.error_type else {})


def _summary(exchange: Exchange) -> str:
    words = [exchange.method, encode(exchange.path).decode()[1:-1], str(exchange.status or "-")]
    words += [f"{exchange.took_s:.3f}s", f"{exchange.bytes_sent}B", exchange.request_id]
    words += ["client left"] * exchange.client_left
    return " ".join(words + [exchange.error_type] * bool(exchange.error_type))


def _time(seconds: float) -> str:
    """RFC 3339, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace(error: BaseException | None) -> str:
    """Where an exception and those that led to it were raised, and their types."""
    parts: list[str] = []
    while error is not None and len(parts) < DEEPEST:
        parts.append("".join(traceback.format_tb(error.__traceback__)) + type(error).__qualname__)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\ncaused by:\n".join(parts)
