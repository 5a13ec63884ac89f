"""Parts of a JSON body that are kept as they came, and read later."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Meta

from max_interfaces import Json

NULL = msgspec.Raw(b"null")


def null() -> msgspec.Raw:
    """What stands for a part of a body that is not given. A function, as a schema cannot show a default that is raw."""
    return NULL


def described(*kinds: str, **more: Any) -> Meta:
    """How the document describes a part of a body that is read later: one of these types of JSON, or null.

    `more` are keywords of JSON Schema.
    """
    return Meta(extra_json_schema={"type": [*kinds, "null"], **more})


def json_of(raw: msgspec.Raw, where: str) -> Json | None:
    """A part of a body as a document; None for null. ValueError, naming `where`, for what is too large, or no JSON."""
    if raw == NULL:
        return None
    try:
        return Json(bytes(raw).decode())
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None
