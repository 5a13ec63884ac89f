"""The two ends of a bounded queue."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

PutT = TypeVar("PutT", contravariant=True)
GetT = TypeVar("GetT", covariant=True)


@runtime_checkable
class PushQueue(Protocol[PutT]):
    """The sending end of a bounded queue."""

    def put_nowait(self, item: PutT) -> None:
        """Queue `item`, or raise `queue.Full` at once."""
        ...


@runtime_checkable
class PullQueue(Protocol[GetT]):
    """The receiving end of a queue."""

    def get_nowait(self) -> GetT:
        """The oldest item, or raise `queue.Empty` at once."""
        ...
