"""Who is let in: a request is admitted, or refused at once with the reason."""

from __future__ import annotations

from max_interfaces.messages import Ended, Submit
from max_interfaces.status import FailureKind, GenerationStatus

from ..config import Limits
from .adapters import AdapterBook
from .ledger import Ledger
from .roster import Roster
from .table import Catalogue

RETRY_AFTER_S = 1.0  # by then a waiting line of short requests has moved
SHARE = 8  # a tenant may have as many waiting as this times what is left of the line


class Admission:
    """Holds each new request against every limit.

    When nearly the whole line is one tenant's, the rest of it is kept for the others: eight ninths of the line are
    what one can have alone, and less each when there are more. (Dynamic thresholds, as switches share a buffer.)
    """

    def __init__(
        self, limits: Limits, ledger: Ledger, roster: Roster, catalogue: Catalogue, adapters: AdapterBook
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._roster = roster
        self._catalogue = catalogue
        self._adapters = adapters
        self.admitted = 0
        self.refused = 0
        self.overloaded = 0  # those of the refused that would have been let in at another time

    def refusal(self, submit: Submit, kind: FailureKind, message: str) -> Ended:
        """What one that is not let in is told."""
        retry = RETRY_AFTER_S if kind is FailureKind.OVERLOADED else None
        self.refused += 1
        self.overloaded += kind is FailureKind.OVERLOADED
        return Ended(submit.request_id, GenerationStatus.FAILED, kind, message[:4096], retry, serial=submit.serial)

    def objection(self, submit: Submit, size: int, *, draining: bool, problem: str) -> tuple[FailureKind, str] | None:
        """Why a request of `size` bytes is not let in, or None: then it is, and counted."""
        ledger, limits = self._ledger, self._limits
        if submit.request_id in ledger.requests:
            return FailureKind.DUPLICATE_ID, f"request {submit.request_id!r} is still running; give a new id"
        if draining:
            return FailureKind.SHUTTING_DOWN, "the server is shutting down"
        if submit.model not in self._catalogue.expected:
            served = ", ".join(self._catalogue.names) or "none"
            return FailureKind.UNKNOWN_MODEL, f"no model {submit.model!r} is served here; served: {served}"
        if problem:
            return FailureKind.WORKER_DIED, f"no worker serves {submit.model!r}: {problem}"
        if submit.adapters and (missing := self._adapters.missing(submit.model, submit.adapters)):
            return FailureKind.UNKNOWN_MODEL, missing
        if len(ledger.requests) >= limits.max_requests:
            return FailureKind.OVERLOADED, f"{len(ledger.requests)} requests are live, the most that may be"
        if size > limits.max_bytes:
            return FailureKind.INVALID_REQUEST, f"the request has {size} bytes, this server takes {limits.max_bytes}"
        if ledger.bytes + size > limits.max_bytes:
            return FailureKind.OVERLOADED, f"the live requests have {ledger.bytes} bytes, {limits.max_bytes} at most"
        waiting = len(ledger.waiting.places)
        theirs = ledger.waiting.of_tenant(submit.tenant) if waiting else 0
        if theirs >= SHARE * (limits.max_waiting - waiting) and not self._starts_at_once(submit.model):
            return FailureKind.OVERLOADED, f"{waiting} requests wait already"
        self.admitted += 1
        return None

    def _starts_at_once(self, model: str) -> bool:
        """Whether a worker has room for one more that nobody waits for."""
        ledger = self._ledger
        return self._roster.free(model) > 0 and not ledger.suspects.places and ledger.waiting.first(model) is None
