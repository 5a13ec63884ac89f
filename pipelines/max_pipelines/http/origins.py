"""Which pages may ask where CORS does not keep others out: browsers send forms, and open WebSockets, unasked."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection


def may_ask(connection: HTTPConnection, allowed: Collection[str]) -> bool:
    """False for a page of another site, unless it is `allowed`, and for an Origin that is no address."""
    origin = connection.headers.get("origin")
    if origin is None or origin in allowed:
        return True
    with contextlib.suppress(ValueError):
        return urlsplit(origin).netloc == connection.headers.get("host")
    return False
