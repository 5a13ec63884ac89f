"""What a worker runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from ..bounds import Count, Position, Seed, TokenIds
from ..identity import RequestID
from ..options import DEFAULT_OPTIONS, RequestOptions
from ..status import GenerationStatus

RequestT = TypeVar("RequestT")
OutputT = TypeVar("OutputT")
PipelineRequestT = TypeVar("PipelineRequestT")
PipelineOutputT = TypeVar("PipelineOutputT")


class Attempt(msgspec.Struct, Generic[RequestT], frozen=True, eq=False):
    """A request on its way into a pipeline, complete: the same attempt gives the same output in any process.

    `seed` is set even where the request has none. On a later attempt, after a worker was lost, `tokens` are the
    ids generated so far, `next_sample` the samples and `next_seq` the outputs that the caller has; those samples began
    with number `first_sample`.
    """

    request: RequestT
    seed: Seed = 0
    number: Count = 1
    tokens: TokenIds = ()
    next_sample: Position = 0
    next_seq: Count = 0
    options: RequestOptions = DEFAULT_OPTIONS
    first_sample: Position = 0


class Chunk(msgspec.Struct, Generic[OutputT], frozen=True, eq=False):
    """One output of a pipeline, with what another worker needs to go on from it.

    `tokens` are all new ids since the request's last chunk; its `samples` begin at `first_sample`. Without an `output`
    it only notes tokens that have nothing to show yet, so that they need not be generated again if this worker is lost.
    """

    request_id: RequestID
    output: OutputT | None
    tokens: TokenIds = ()
    first_sample: Position = 0
    samples: Count = 0


class Output(Protocol):
    """What every output has in common."""

    @property
    def final_status(self) -> GenerationStatus:
        """Where the request stands."""
        ...

    @property
    def is_done(self) -> bool:
        """True for the last output of a request."""
        ...


class Pipeline(Protocol[PipelineRequestT, PipelineOutputT]):
    """What a worker runs: one model, many requests at once. One thread calls it.

    A request's state belongs to the pipeline from `admit` until `release`.
    """

    def admit(self, attempt: Attempt[PipelineRequestT]) -> None:
        """Take a request. ValueError, with the reason, if it could never be served."""
        ...

    def execute(self, active: Collection[RequestID]) -> Sequence[Chunk[PipelineOutputT]]:
        """Move the requests named by `active` one step; return what became ready, in order, maybe nothing.

        Admitted ids left out are paused and keep their state. A chunk whose output `is_done` is the last of its
        request; that of one that cannot go on has the status `failed` and says why. An exception means that the step
        failed as a whole and changed nothing, so that it can be repeated with fewer ids; DeviceLost, that no step will
        succeed any more.
        """
        ...

    def release(self, request_id: RequestID) -> None:
        """Forget a request and free what it holds. Safe between steps, also for an unknown id."""
        ...
