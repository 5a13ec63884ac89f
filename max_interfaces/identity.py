"""The name of one request."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Annotated

from msgspec import Meta

from .bounds import Bounded

MAX_ID_LENGTH = 128  # long enough for any caller's own scheme, short enough for a log line


def _new_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, order=True)
class RequestID(Bounded):
    """A value: two ids with the same text are the same request. On the wire it is a plain string."""

    value: Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)] = field(default_factory=_new_id)

    def __str__(self) -> str:
        return self.value
