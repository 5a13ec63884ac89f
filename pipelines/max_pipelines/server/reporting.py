"""How the server is, in numbers."""

from __future__ import annotations

from max_interfaces.messages import LONGEST_S, Report, WorkerReport

from .admission import Admission
from .ledger import Ledger
from .placement import Placement
from .roster import Roster
from .strangers import Strangers
from .table import WorkerRecord
from .worker_messages import WorkerMessages


class Reporting:
    """Gathers what the parts of the dispatcher count."""

    def __init__(
        self,
        ledger: Ledger,
        roster: Roster,
        placement: Placement,
        admission: Admission,
        from_workers: WorkerMessages,
        strangers: Strangers,
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._placement = placement
        self._admission = admission
        self._from_workers = from_workers
        self._strangers = strangers

    def report(self, now: float) -> Report:
        """The state of now, and what was counted since the start."""
        ledger = self._ledger
        gauges = {
            "requests": len(ledger.requests),
            "waiting": len(ledger.waiting) + len(ledger.suspects),
            "clients": len(ledger.clients),
            "bytes": ledger.bytes,
            "admitted": self._admission.admitted,
            "refused": self._admission.refused,
            "overloaded": self._admission.overloaded,
            "resumed": self._placement.resumed,
            "lost_workers": self._roster.lost,
            "stale_chunks": self._from_workers.stale,
            "unreadable": self._strangers.refused,
            "cut_off": self._strangers.cut,
        }
        workers = sorted(self._roster.workers.values(), key=lambda worker: worker.name)
        return Report(gauges, tuple(_of(worker, now) for worker in workers))


def _of(worker: WorkerRecord, now: float) -> WorkerReport:
    return WorkerReport(
        worker.name,
        bool(worker.credits),
        worker.standby,
        worker.credits,
        len(worker.running),
        worker.steps,
        min(LONGEST_S, worker.age_s + max(0.0, now - worker.heard)),
        worker.gauges,
    )
