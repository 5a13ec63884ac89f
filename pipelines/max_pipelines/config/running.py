"""How it is served: the workers, the limits, other hosts."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ..address import parse_listen
from .section import Path_, Section


class WorkersConfig(Section, frozen=True):
    """How many workers serve the model, and where they run: each in a process, or in a thread of the caller's.

    `standby` more are loaded and do nothing, until one of the others is lost: then its requests go on there within
    a moment, where they would else wait for a new worker to load. `threads` is the number of CPU threads of a worker;
    `start_timeout_s` what each has until it is ready; one that takes longer hangs, and is killed.
    """

    count: Annotated[int, Meta(ge=1, le=256)] = 1
    standby: Annotated[int, Meta(ge=0, le=256)] = 0
    transport: Literal["process", "thread"] = "process"
    threads: Annotated[int, Meta(ge=1, le=256)] = 1
    start_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 600.0


LEAST_SILENCE_S = 1.3
Silence = Annotated[float, Meta(ge=LEAST_SILENCE_S, le=3600)]


class Limits(Section, frozen=True):
    """Every bound of the dispatcher; times in seconds.

    `max_waiting` requests wait for a worker, more are refused as overloaded; so is what would make more than
    `max_requests` live ones, or more than `max_bytes` of them. A client that has not pinged for `lease_s` is gone; a
    worker silent for `silence_s` beyond what it announced is taken for hung. A request rests while its reader is
    `ahead_s` of sound or `ahead_outputs` outputs behind, and is cancelled if nothing of it is read for `stall_s`.
    `drain_s` is what running requests get when the server ends, `retire_s` what a worker then gets to end by itself
    before it is killed.

    `lease_s` and `silence_s` are 1.3 or more: everybody gives a sign of life each second, a worker's may wait for a
    step of up to 0.25 s that is not announced, and the way takes some milliseconds. Below that whoever is idle would be
    taken for gone.
    """

    max_waiting: Annotated[int, Meta(ge=0, le=2**20)] = 1024
    max_requests: Annotated[int, Meta(ge=1, le=2**20)] = 4096
    max_bytes: Annotated[int, Meta(ge=1, le=2**40)] = 2**28
    lease_s: Silence = 3.0
    silence_s: Silence = 3.0
    ahead_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    ahead_outputs: Annotated[int, Meta(ge=1, le=2**20)] = 2048
    stall_s: Annotated[float, Meta(gt=0, le=86_400)] = 30.0
    retire_s: Annotated[float, Meta(gt=0, le=3600)] = 0.7
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0


class TcpConfig(Section, frozen=True):
    """Serving other hosts, encrypted and to allowed keys only: `listen` is tcp://HOST:PORT, or tcp://*:PORT.

    `keys` is the folder with the server's key and the list of those it lets in, by default that of `maxpipe keys`.
    """

    listen: Annotated[str, Meta(max_length=512)]
    keys: Path_ | None = None

    def __post_init__(self) -> None:
        parse_listen(self.listen)
