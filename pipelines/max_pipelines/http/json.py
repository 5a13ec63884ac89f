"""JSON in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Meta
from starlette.responses import Response

from max_interfaces import Json

NULL = msgspec.Raw(b"null")

_encoder = msgspec.json.Encoder()


def encode(content: object) -> bytes:
    """The bytes of Structs, mappings, lists and plain values."""
    return _encoder.encode(content)


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


class JsonResponse(Response):
    """A whole answer."""

    media_type = "application/json"

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(encode(content), status, headers)

    def render(self, content: Any) -> bytes:
        """Already bytes."""
        body: bytes = content
        return body
