"""JSON in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

_encoder = msgspec.json.Encoder()


def encode(content: object) -> bytes:
    """The bytes of Structs, mappings, lists and plain values."""
    return _encoder.encode(content)


class JsonResponse(Response):
    """A whole answer."""

    media_type = "application/json"

    def __init__(self, content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(encode(content), status, headers)

    def render(self, content: Any) -> bytes:
        """Already bytes."""
        body: bytes = content
        return body
