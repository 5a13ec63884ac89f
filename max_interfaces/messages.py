"""The control messages between client, dispatcher and worker.

A message is one ZeroMQ multipart: first the header, a version byte and a tagged msgpack array; then, on some, payload
frames (`wire.encode_payload`), which the dispatcher passes on without reading them.

    client ──▶ dispatcher   Submit+payload  Cancel  Read  Describe  Inspect  Adapt  Ping  Goodbye
    dispatcher ──▶ client   Described  Report  Adapted  Delivery+payload  Ended  Watch
    dispatcher ──▶ worker   Start+payload  Stop  Pace  Equip  Beat  Retire
    worker ──▶ dispatcher   Alive  Ready  Delivery+payload  Noted  Ended  Unfit

Any of them may be lost, repeated or late, and each can be told: a client numbers its submissions (`serial`), the
dispatcher its attempts and its lists of adapters (`revision`), a worker its outputs (`seq`) and tokens (`first_token`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from .bounds import Count, Name, Position, Seed, TokenIds
from .errors import WireError
from .identity import MAX_ID_LENGTH
from .lora import LoRAOperation, LoRAStatus
from .options import Priority, Tenant
from .problems import told
from .status import FailureKind, GenerationStatus
from .wire import Frame

PROTOCOL_VERSION = 3
PROTOCOL_MARK = bytes([PROTOCOL_VERSION])

MAX_ADAPTERS = 1024  # of one model; with the longest names and paths, characters of four bytes, 17 MiB of `Equip`

# The most entries that a list may have, 65,536, with the longest ids, 128 characters of four bytes, make 34 MiB of
# `Alive.held` and 39 MiB of `Delivery.heads` with a token each; a `Start` with 2^20 tokens has 5 MiB. The bounds of a
# list and of what is in it, multiplied, allow more: so many heads with so many tokens each have 320 GB, and nobody
# sends that. To decode a header of this size takes at most 12 times as much: tokens of one byte become pointers.
MAX_HEADER_BYTES = 2**26

IdText = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Peer = Annotated[bytes, Meta(min_length=1, max_length=64)]
Names = Annotated[tuple[Name, ...], Meta(max_length=4096)]
Message = Annotated[str, Meta(max_length=4096)]
LONGEST_S = 86_400.0  # that the wire can carry
Wait = Annotated[float, Meta(ge=0, le=LONGEST_S)]
AdapterPath = Annotated[str, Meta(max_length=4096)]
Generations = Annotated[
    tuple[Position, ...], Meta(max_length=2)
]  # a request's: an adapter, and a soft prompt beside it


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag=True):
    """What every header shares. An array: the keys of maps cost a sleeping road 20 us there and back."""


Pause = Annotated[float, Meta(ge=0, le=10)]  # seconds


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client should know of a served model. 0 where nothing is known, or nothing bounds it.

    `max_words` bounds one part of a text that is spoken, `max_tokens` a prompt and its answer together. `adapters` may
    be named by requests; with `loads_adapters` more can be loaded while it serves. `media` are the kinds that
    requests may have beside text. A model that speaks `normalizes` what is said otherwise than written, and `spells`
    that in the letters that it knows; its pauses between two sentences are told in seconds. With `takes_samples` a
    request may have a sample of a voice, and `voices` may come and go while it serves.
    """

    name: Name
    task: Name
    sample_rate: Count = 0
    voices: Names = ()
    max_words: Count = 0
    max_tokens: Count = 0
    adapters: Names = ()
    loads_adapters: bool = False
    media: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()
    normalizes: bool = False
    spells: bool = False
    shortest_pause_s: Pause = 0.4
    longest_pause_s: Pause = 0.6
    takes_samples: bool = False


Models = Annotated[tuple[ModelInfo, ...], Meta(max_length=4096)]


class Submit(_Header, frozen=True):
    """A request, in the payload; `seed` is the caller's, if it gave one. `serial` counts the client's submissions.

    Requests with the same `prefix`, 0 for none, begin alike, so that a worker that knows one is quicker with the next.
    `adapters` are those that it names.
    """

    request_id: IdText
    model: Name
    deadline_s: Wait
    serial: Position = 0
    priority: Priority = 0
    tenant: Tenant = ""
    seed: Seed | None = None
    prefix: Position = 0
    adapters: Annotated[tuple[Name, ...], Meta(max_length=2)] = ()


class Cancel(_Header, frozen=True):
    """End a request now."""

    request_id: IdText
    serial: Position = 0


class Read(_Header, frozen=True):
    """The reader has taken all outputs up to number `seq`, whose sound ends before `sample`. Sent if watched."""

    request_id: IdText
    serial: Position = 0
    seq: Count = 0
    sample: Position = 0


class Describe(_Header, frozen=True):
    """Ask what is served. Answered once every model has a worker that is ready, or cannot get one."""


class Inspect(_Header, frozen=True):
    """Ask how the server is. Answered at once."""


class Adapt(_Header, frozen=True):
    """Load an adapter of a model from `path`, or unload it. Asked again, by the same `serial`, until it is answered."""

    serial: Position
    model: Name
    operation: LoRAOperation
    name: Name
    path: AdapterPath = ""


class Ping(_Header, frozen=True):
    """The client named `peer` still lives. Sent on a socket of its own, so that a busy event loop cannot stop it."""

    peer: Peer


class Goodbye(_Header, frozen=True):
    """The client leaves: all its requests end."""


class Described(_Header, frozen=True):
    """What is served, or why nothing is."""

    models: Models = ()
    problem: Message = ""


class Adapted(_Header, frozen=True):
    """What became of an `Adapt`: every worker that is ready has done it, or the first of them that cannot says why."""

    serial: Position
    status: LoRAStatus
    message: Message = ""


Gauges = Annotated[Mapping[Name, Annotated[int, Meta(ge=-(2**62), le=2**62)]], Meta(max_length=256)]


class WorkerReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One worker as the dispatcher sees it. `age_s`: how long ago its last step ended, when it last spoke."""

    name: Name
    ready: bool = False
    standby: bool = False
    credits: Count = 0
    running: Count = 0
    steps: Position = 0
    age_s: Wait = 0.0
    gauges: Gauges = {}


class Report(_Header, frozen=True):
    """How the server is: what it counts, and its workers."""

    gauges: Gauges = {}
    workers: Annotated[tuple[WorkerReport, ...], Meta(max_length=4096)] = ()


class Watch(_Header, frozen=True):
    """The client shall tell by `Read` what its reader takes, until it has taken output number `seq`."""

    request_id: IdText
    serial: Position
    seq: Count


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


class Noted(_Header, frozen=True):
    """All notes of one worker step."""

    notes: Annotated[tuple[Note, ...], Meta(max_length=2**16)]


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
    serial: Position = 0


class Start(_Header, frozen=True):
    """A request for a worker, in the payload. `tokens` and `next_*` say where an earlier attempt had got to,
    and `first_sample` where its sound began.

    `deadline_s` is the time that is left. The dispatcher keeps it; a worker that hears nothing more does, too. It runs
    with these `adapters`, or not at all: a worker that does not have them takes it for lost on the way.
    """

    request_id: IdText
    peer: Peer
    attempt: Count
    seed: Seed
    deadline_s: Wait
    serial: Position = 0
    tokens: TokenIds = ()
    next_sample: Position = 0
    next_seq: Count = 0
    priority: Priority = 0
    tenant: Tenant = ""
    adapters: Generations = ()
    first_sample: Position = 0


class Stop(_Header, frozen=True):
    """Forget a request and free what it holds. Nothing is answered."""

    request_id: IdText
    attempt: Count


class Pace(_Header, frozen=True):
    """Rest with a request whose reader is behind, or go on with it."""

    request_id: IdText
    attempt: Count
    rest: bool


class Adapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """An adapter that is to be loaded. Each loading has a `generation` of its own: a name may come back with other
    weights.
    """

    generation: Position
    name: Name
    path: AdapterPath


class Equip(_Header, frozen=True):
    """All adapters that a worker shall have of this dispatcher's, and no others. A list with a higher `revision` is
    newer; what a worker has made of it stands in its signs of life.
    """

    revision: Position
    adapters: Annotated[tuple[Adapter, ...], Meta(max_length=MAX_ADAPTERS)] = ()


class Beat(_Header, frozen=True):
    """The dispatcher lives, and so many requests wait for this worker's models. Sent every second.

    A worker that is not `known` is none of this dispatcher's: it forgets what it had from it, and says again that it
    is ready.
    """

    waiting: Count = 0
    known: bool = True


class Retire(_Header, frozen=True):
    """End yourself: the dispatcher has no more work for this worker; `reason` says why it never had."""

    reason: Message = ""


class Held(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """A request that a worker has, in the attempt that it knows, and whether it rests."""

    request_id: IdText
    attempt: Count
    resting: bool = False


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """What a worker has made of an adapter: it has it, or says why it cannot have it."""

    generation: Position
    status: LoRAStatus = LoRAStatus.SUCCESS
    message: Message = ""


Credits = Annotated[int, Meta(ge=0, le=2**16)]


class Alive(_Header, frozen=True):
    """Sent from the work loop: it makes progress. `busy_s` announces a step that may take that long.

    `held` is all that it has from this dispatcher, whatever was lost on the way; `credits` how many requests it takes.
    `age_s` is the time since its last step ended, `gauges` what its pipeline measures of itself. `fitted` is what it
    has made of the dispatcher's list of adapters number `revision`, the last that it was told. `voices` are all that
    requests may name now, of a model that `takes_samples`.
    """

    worker: Name
    steps: Position = 0
    held: Annotated[tuple[Held, ...], Meta(max_length=2**16)] = ()
    credits: Credits = 0
    age_s: Wait = 0.0
    busy_s: Wait = 0.0
    gauges: Gauges = {}
    revision: Position = 0
    fitted: Annotated[tuple[Fitted, ...], Meta(max_length=MAX_ADAPTERS)] = ()
    voices: Names = ()


class Ready(_Header, frozen=True):
    """A worker has proved that it serves `models`, and takes `credits` requests of `credit_bytes` in all.

    One that is `supervised` may be kept in reserve; one that came by itself works.
    """

    worker: Name
    models: Models
    credits: Annotated[int, Meta(ge=1, le=2**16)]
    credit_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 2**28
    supervised: bool = False


class Unfit(_Header, frozen=True):
    """A worker cannot start: says why, then ends."""

    worker: Name
    message: Message


ClientMessage: TypeAlias = Submit | Cancel | Read | Describe | Inspect | Adapt | Ping | Goodbye
WorkerMessage: TypeAlias = Alive | Ready | Delivery | Noted | Ended | Unfit
ToClient: TypeAlias = Described | Report | Adapted | Delivery | Ended | Watch
ToWorker: TypeAlias = Start | Stop | Pace | Equip | Beat | Retire
Header: TypeAlias = ClientMessage | WorkerMessage | ToClient | ToWorker

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode_header(message: Header) -> bytes:
    """The header frame of a message."""
    return PROTOCOL_MARK + _encoder.encode(message)


def decode_header(frame: Frame) -> Header:
    """The message of a header frame. WireError for anything else, whatever the bytes; too many are not looked at."""
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(frame)} bytes; the largest has {MAX_HEADER_BYTES}")
    if not len(frame) or frame[0] != PROTOCOL_VERSION:
        got = f"version {frame[0]}" if len(frame) else "an empty frame"
        raise WireError(f"this end speaks protocol version {PROTOCOL_VERSION}, the other sent {got}")
    try:
        message: Header = _decoder.decode(frame[1:])
    except (ValueError, RecursionError) as problem:
        raise WireError(f"header refused: {told(problem)}") from None
    return message
