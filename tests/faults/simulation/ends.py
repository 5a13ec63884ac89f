"""What the dispatcher tells clients, before any client's side has sorted it: one terminal message for each request."""

from __future__ import annotations

from collections import Counter

from max_interfaces import GenerationStatus
from max_interfaces.messages import Delivery, Ended, Header, Submit

Asked = tuple[bytes, str, int]  # client, request id, serial


class Ends:
    """Counts both for each request. On a way that repeats messages, a request may be let in again after its end."""

    def __init__(self) -> None:
        self._submits: Counter[Asked] = Counter()
        self._ends: Counter[Asked] = Counter()

    def submitted(self, peer: bytes, submit: Submit) -> None:
        """The dispatcher hears of a request."""
        self._submits[peer, submit.request_id, submit.serial] += 1

    def told(self, peer: bytes, message: Header) -> None:
        """The dispatcher tells a client something."""
        match message:
            case Ended(request_id, serial=serial):
                self._tells((peer, request_id, serial), ends=True)
            case Delivery(_, heads, skip):
                for index, head in enumerate(heads):
                    if index not in skip:
                        ends = head.status is not GenerationStatus.ACTIVE
                        self._tells((peer, head.request_id, head.serial), ends=ends)

    def _tells(self, asked: Asked, *, ends: bool) -> None:
        assert self._ends[asked] < self._submits[asked], f"{asked[1]} has had its end, and hears more"
        self._ends[asked] += ends
