"""What comes of requests: from a worker to the dispatcher, and on to the client."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ..bounds import Count, Position, TokenIds
from ..status import FailureKind, GenerationStatus
from .header import IdText, Message, Peer, Tagged, Wait


class ChunkHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """Where a chunk belongs: everything that a resume needs, and that tells a repeat from news."""

    request_id: IdText
    serial: Position
    attempt: Count
    seq: Count
    first_sample: Position
    samples: Count
    status: GenerationStatus
    first_token: Count = 0
    tokens: TokenIds = ()


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """Tokens of a request that have nothing to show yet; the first of them is its token number `first_token`."""

    request_id: IdText
    attempt: Count
    first_token: Count
    tokens: TokenIds


class Noted(Tagged, frozen=True):
    """All notes of one worker step."""

    notes: Annotated[tuple[Note, ...], Meta(max_length=2**16)]


class Delivery(Tagged, frozen=True):
    """All chunks of one worker step for one client, in order; item i of the payload belongs to `heads[i]`.

    `skip` lists the items that came from an attempt that is no longer current.
    """

    peer: Peer
    heads: Annotated[tuple[ChunkHead, ...], Meta(max_length=2**16)]
    skip: Annotated[tuple[Count, ...], Meta(max_length=2**16)] = ()


class Ended(Tagged, frozen=True):
    """A request's terminal message where no output carries it: failed, cancelled or too late."""

    request_id: IdText
    status: GenerationStatus
    kind: FailureKind | None = None
    message: Message = ""
    retry_after: Wait | None = None
    attempt: Count = 0
    serial: Position = 0
