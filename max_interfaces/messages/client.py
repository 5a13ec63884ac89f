"""Between a client and a dispatcher: what is asked, and what is served."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ..bounds import Count, Name, Position, Seed
from ..lora import LoRAOperation, LoRAStatus
from ..options import Priority, Tenant
from .header import AdapterPath, Gauges, IdText, Message, Peer, Tagged, Wait
from .models import Models


class Submit(Tagged, frozen=True):
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


class Cancel(Tagged, frozen=True):
    """End a request now."""

    request_id: IdText
    serial: Position = 0


class Read(Tagged, frozen=True):
    """The reader has taken all outputs up to number `seq`, whose sound ends before `sample`. Sent if watched."""

    request_id: IdText
    serial: Position = 0
    seq: Count = 0
    sample: Position = 0


class Describe(Tagged, frozen=True):
    """Ask what is served. Answered once every model has a worker that is ready, or cannot get one."""


class Inspect(Tagged, frozen=True):
    """Ask how the server is. Answered at once."""


class Adapt(Tagged, frozen=True):
    """Load an adapter of a model from `path`, or unload it. Asked again, by the same `serial`, until it is answered."""

    serial: Position
    model: Name
    operation: LoRAOperation
    name: Name
    path: AdapterPath = ""


class Ping(Tagged, frozen=True):
    """The client named `peer` still lives. Sent on a socket of its own, so that a busy event loop cannot stop it."""

    peer: Peer


class Goodbye(Tagged, frozen=True):
    """The client leaves: all its requests end."""


class Described(Tagged, frozen=True):
    """What is served, or why nothing is."""

    models: Models = ()
    problem: Message = ""


class Adapted(Tagged, frozen=True):
    """What became of an `Adapt`: every worker that is ready has done it, or the first of them that cannot says why."""

    serial: Position
    status: LoRAStatus
    message: Message = ""


class WorkerReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One worker as the dispatcher sees it. `age_s`: how long ago its last step ended, when it last spoke."""

    name: Name
    ready: bool = False
    standby: bool = False
    credits: Count = 0
    running: Count = 0
    steps: Position = 0
    age_s: Wait = 0.0
    gauges: Gauges = msgspec.field(default_factory=dict)


class Report(Tagged, frozen=True):
    """How the server is: what it counts, and its workers."""

    gauges: Gauges = msgspec.field(default_factory=dict)
    workers: Annotated[tuple[WorkerReport, ...], Meta(max_length=4096)] = ()


class Watch(Tagged, frozen=True):
    """The client shall tell by `Read` what its reader takes, until it has taken output number `seq`."""

    request_id: IdText
    serial: Position
    seq: Count
