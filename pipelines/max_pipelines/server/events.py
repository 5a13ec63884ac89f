"""What happens to a dispatcher, and what it wants done. msgspec Structs, because every message makes some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from max_interfaces.messages import Header, ToClient, ToWorker
from max_interfaces.wire import Frame

Frames: TypeAlias = Sequence[Frame]


class _Event(msgspec.Struct, frozen=True, eq=False):
    """What every event and action shares."""


class Received(_Event, frozen=True):
    """A message from `peer`, a client's or a worker's routing id, with its header frame as it came."""

    peer: bytes
    message: Header
    header: Frame = b""
    payload: Frames = ()


class Unreadable(_Event, frozen=True):
    """Bytes from `peer` that are no message, or none that it may send, and why. `cut`: it is not even told."""

    peer: bytes
    problem: str
    cut: bool = False


class PeerGone(_Event, frozen=True):
    """A send found nobody at `peer`, or nobody who reads."""

    peer: bytes
    reason: str


class WorkerExited(_Event, frozen=True):
    """The worker named `name` is no more."""

    name: str
    reason: str


class WorkersGivenUp(_Event, frozen=True):
    """No worker can be had any more."""

    reason: str


class DrainBegins(_Event, frozen=True):
    """No new requests; those that run may end."""


class DrainEnds(_Event, frozen=True):
    """Whatever still runs ends now."""


class Overslept(_Event, frozen=True):
    """For so long the server itself stood still, so that it could hear of nobody."""

    seconds: float


class Tick(_Event, frozen=True):
    """Time has passed."""


Event: TypeAlias = (
    Received | Unreadable | PeerGone | WorkerExited | WorkersGivenUp | DrainBegins | DrainEnds | Overslept | Tick
)


class Send(_Event, frozen=True):
    """Send a message; `header`, if given, is the message already encoded."""

    peer: bytes
    message: ToClient | ToWorker
    payload: Frames = ()
    header: Frame | None = None


class Kill(_Event, frozen=True):
    """End a worker that is of no more use."""

    name: str
    reason: str


class Cut(_Event, frozen=True):
    """End the connection of a peer that sends what is no message."""

    peer: bytes


Action: TypeAlias = Send | Kill | Cut
