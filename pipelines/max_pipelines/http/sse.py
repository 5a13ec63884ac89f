"""Server-sent events."""

from __future__ import annotations

from .json import encode

MIME = "text/event-stream"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # or a proxy would collect them
DONE = b"data: [DONE]\n\n"


def event(content: object) -> bytes:
    """One event, without a name of its own: what `data:` is followed by is JSON."""
    return b"data: " + encode(content) + b"\n\n"
