"""Between a dispatcher and a worker: what it is to do, and how it is."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ..bounds import Count, Name, Position, Seed, TokenIds
from ..lora import LoRAStatus
from ..options import Priority, Tenant
from .header import AdapterPath, Gauges, IdText, Message, Names, Peer, Tagged, Wait
from .models import Models

MAX_ADAPTERS = 1024  # of one model; with the longest names and paths, characters of four bytes, 17 MiB of `Equip`
# A request's: an adapter, and a soft prompt beside it.
Generations = Annotated[tuple[Position, ...], Meta(max_length=2)]


class Start(Tagged, frozen=True):
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


class Stop(Tagged, frozen=True):
    """Forget a request and free what it holds. Nothing is answered."""

    request_id: IdText
    attempt: Count


class Pace(Tagged, frozen=True):
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


class Equip(Tagged, frozen=True):
    """All adapters that a worker shall have of this dispatcher's, and no others. A list with a higher `revision` is
    newer; what a worker has made of it stands in its signs of life.
    """

    revision: Position
    adapters: Annotated[tuple[Adapter, ...], Meta(max_length=MAX_ADAPTERS)] = ()


class Beat(Tagged, frozen=True):
    """The dispatcher lives, and so many requests wait for this worker's models. Sent every second.

    A worker that is not `known` is none of this dispatcher's: it forgets what it had from it, and says again that it
    is ready.
    """

    waiting: Count = 0
    known: bool = True


class Retire(Tagged, frozen=True):
    """The dispatcher ends; or it will never have work for this worker, and `reason` says why."""

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


class Alive(Tagged, frozen=True):
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
    gauges: Gauges = msgspec.field(default_factory=dict)
    revision: Position = 0
    fitted: Annotated[tuple[Fitted, ...], Meta(max_length=MAX_ADAPTERS)] = ()
    voices: Names = ()


class Ready(Tagged, frozen=True):
    """A worker has proved that it serves `models`, and takes `credits` requests of `credit_bytes` in all.

    One that is `supervised` may be kept in reserve; one that came by itself works.
    """

    worker: Name
    models: Models
    credits: Annotated[int, Meta(ge=1, le=2**16)]
    credit_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 2**28
    supervised: bool = False


class Unfit(Tagged, frozen=True):
    """A worker cannot start: says why, then ends."""

    worker: Name
    message: Message
