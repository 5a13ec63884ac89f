"""What travels beside a request and is not part of what it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from .bounds import Bounded

Priority = Annotated[int, Meta(ge=-100, le=100)]
Tenant = Annotated[str, Meta(max_length=128)]


@dataclass(frozen=True, slots=True)
class RequestOptions(Bounded):
    """How urgently, for how long, and for whom.

    `deadline_s` is the time from submission after which the request ends with `deadline_exceeded`.
    A higher `priority` leaves the waiting line first. `tenant` names who pays, for fairness.
    """

    deadline_s: Annotated[float, Meta(gt=0, le=86_400)] = 300.0
    priority: Priority = 0
    tenant: Tenant = ""


DEFAULT_OPTIONS = RequestOptions()
