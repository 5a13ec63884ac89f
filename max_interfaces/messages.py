"""The control messages between client, dispatcher and worker.

A message is one ZeroMQ multipart: first the header, a version byte and a tagged msgpack map; then, on some, payload
frames (`wire.encode_payload`), which the dispatcher passes on without reading them.

    client ──▶ dispatcher   Submit+payload  Cancel  Describe  Ping  Goodbye
    dispatcher ──▶ client   Described  Delivery+payload  Ended
    dispatcher ──▶ worker   Start+payload  Stop  Retire
    worker ──▶ dispatcher   Alive  Ready  Delivery+payload  Ended  Unfit
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from .bounds import Count, Name, Position, Seed, TokenIds
from .errors import WireError
from .identity import MAX_ID_LENGTH
from .options import Priority, Tenant
from .status import FailureKind, GenerationStatus
from .wire import Frame

PROTOCOL_VERSION = 1
PROTOCOL_MARK = bytes([PROTOCOL_VERSION])

IdText = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Peer = Annotated[bytes, Meta(min_length=1, max_length=64)]
Names = Annotated[tuple[Name, ...], Meta(max_length=4096)]
Message = Annotated[str, Meta(max_length=4096)]
Wait = Annotated[float, Meta(ge=0, le=86_400)]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="$type", tag=True, omit_defaults=True):
    """What every header shares."""


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client should know of a served model. `max_words` bounds one part of a text, 0 if nothing does."""

    name: Name
    task: Name
    sample_rate: Count = 0
    voices: Names = ()
    max_words: Count = 0


Models = Annotated[tuple[ModelInfo, ...], Meta(max_length=4096)]


class Submit(_Header, frozen=True):
    """A request, in the payload; `seed` is the caller's, if it gave one."""

    request_id: IdText
    model: Name
    deadline_s: Wait
    priority: Priority = 0
    tenant: Tenant = ""
    seed: Seed | None = None


class Cancel(_Header, frozen=True):
    """End a request now."""

    request_id: IdText


class Describe(_Header, frozen=True):
    """Ask what is served. Answered once every model has a worker that is ready, or cannot get one."""


class Ping(_Header, frozen=True):
    """The client named `peer` still lives. Sent on a socket of its own, so that a busy event loop cannot stop it."""

    peer: Peer


class Goodbye(_Header, frozen=True):
    """The client leaves: all its requests end."""


class Described(_Header, frozen=True):
    """What is served, or why nothing is."""

    models: Models = ()
    problem: Message = ""


class ChunkHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """Where a chunk belongs: everything that a resume needs, and that tells a repeat from news."""

    request_id: IdText
    attempt: Count
    seq: Count
    first_sample: Position
    samples: Count
    status: GenerationStatus
    tokens: TokenIds = ()


class Delivery(_Header, frozen=True):
    """All chunks of one worker step for one client, in order; item i of the payload belongs to `heads[i]`.

    `skip` lists the items that came from an attempt that is no longer current.
    """

    peer: Peer
    heads: Annotated[tuple[ChunkHead, ...], Meta(max_length=2**16)]
    skip: Annotated[tuple[Count, ...], Meta(max_length=2**16)] = ()


class Ended(_Header, frozen=True):
    """A request's terminal message where no output carries it: failed, cancelled or too late."""

    request_id: IdText
    status: GenerationStatus
    kind: FailureKind | None = None
    message: Message = ""
    retry_after: Wait | None = None
    attempt: Count = 0


class Start(_Header, frozen=True):
    """A request for a worker, in the payload. `tokens` and `next_*` say where an earlier attempt had got to."""

    request_id: IdText
    peer: Peer
    attempt: Count
    seed: Seed
    tokens: TokenIds = ()
    next_sample: Position = 0
    next_seq: Count = 0
    priority: Priority = 0
    tenant: Tenant = ""


class Stop(_Header, frozen=True):
    """Forget a request and free what it holds. Nothing is answered."""

    request_id: IdText
    attempt: Count


class Retire(_Header, frozen=True):
    """End yourself: the dispatcher has no more work for this worker; `reason` says why it never had."""

    reason: Message = ""


class Alive(_Header, frozen=True):
    """Sent from the work loop: it makes progress. `busy_s` announces a step that may take that long."""

    worker: Name
    steps: Position = 0
    in_flight: Count = 0
    busy_s: Wait = 0.0


class Ready(_Header, frozen=True):
    """A worker can serve `models`, `credits` requests at once."""

    worker: Name
    models: Models
    credits: Annotated[int, Meta(ge=1, le=2**16)]


class Unfit(_Header, frozen=True):
    """A worker cannot start: says why, then ends."""

    worker: Name
    message: Message


ClientMessage: TypeAlias = Submit | Cancel | Describe | Ping | Goodbye
WorkerMessage: TypeAlias = Alive | Ready | Delivery | Ended | Unfit
ToClient: TypeAlias = Described | Delivery | Ended
ToWorker: TypeAlias = Start | Stop | Retire
Header: TypeAlias = ClientMessage | WorkerMessage | ToClient | ToWorker

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode_header(message: Header) -> bytes:
    """The header frame of a message."""
    return PROTOCOL_MARK + _encoder.encode(message)


def decode_header(frame: Frame) -> Header:
    """The message of a header frame. WireError for anything else, whatever the bytes."""
    if not len(frame) or frame[0] != PROTOCOL_VERSION:
        got = f"version {frame[0]}" if len(frame) else "an empty frame"
        raise WireError(f"this end speaks protocol version {PROTOCOL_VERSION}, the other sent {got}")
    try:
        message: Header = _decoder.decode(frame[1:])
    except (ValueError, RecursionError) as problem:
        raise WireError(f"header refused: {problem}") from None
    return message
