"""What happens to a dispatcher, and what it wants done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from max_interfaces.messages import ClientMessage, ToClient, ToWorker, WorkerMessage
from max_interfaces.wire import Frame

Frames: TypeAlias = Sequence[Frame]


@dataclass(frozen=True, slots=True)
class Received:
    """A message from `peer`, a client's or a worker's routing id, with its header frame as it came."""

    peer: bytes
    message: ClientMessage | WorkerMessage
    header: Frame = b""
    payload: Frames = ()


@dataclass(frozen=True, slots=True)
class PeerGone:
    """A send found nobody at `peer`, or nobody who reads."""

    peer: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The worker named `name` is no more."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class WorkersGivenUp:
    """No worker can be had any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class DrainBegins:
    """No new requests; those that run may end."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event: TypeAlias = Received | PeerGone | WorkerExited | WorkersGivenUp | DrainBegins | Tick


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message; `header`, if given, is the message already encoded."""

    peer: bytes
    message: ToClient | ToWorker
    payload: Frames = field(default=())
    header: Frame | None = None


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker that no longer answers."""

    name: str
    reason: str


Action: TypeAlias = Send | Kill
