"""How everything is at a moment: the processes, the dispatcher's tables, what engines have free."""

from __future__ import annotations

import gc
import os

import msgspec

from max_interfaces.messages import Report

from .processes import server_at, usage, workers_of

SERVER, OURSELVES, TABLES = "server", "soak", "dispatcher"
HELD = ("requests", "waiting", "clients", "bytes")  # the dispatcher's tables, which are empty when nothing is under way
RUNNING, MISSING = "running", "workers missing"
FREE = "free"  # how the name of a gauge begins that must not fall

Numbers = dict[str, dict[str, float]]  # whose, and what


class Sample(msgspec.Struct, frozen=True):
    """The numbers at a time, in seconds since the start; `rest` if nothing was under way, and after which round."""

    at: float
    numbers: Numbers
    rest: int | None = None


class Sampler:
    """Looks at a server, its workers and this process. Of a server elsewhere only what it reports is known."""

    def __init__(self, address: str) -> None:
        self.server = server_at(address)
        self._workers = 0

    @property
    def workers(self) -> dict[str, int]:
        """The process ids of the server's own workers."""
        return workers_of(self.server) if self.server is not None else {}

    def look(self, report: Report) -> Numbers:
        """All numbers, where the server has just said this."""
        ready = sum(worker.ready for worker in report.workers)
        self._workers = max(self._workers, ready)
        held = {name: float(report.gauges[name]) for name in HELD if name in report.gauges}
        numbers: Numbers = {TABLES: held | {MISSING: float(self._workers - ready)}}
        for worker in report.workers:
            own = numbers.setdefault(worker.name, {RUNNING: float(worker.running)})
            own |= {name: float(value) for name, value in worker.gauges.items() if name.startswith(FREE)}
        for name, pid in self.workers.items():
            numbers.setdefault(name, {}).update(usage(pid))
        if self.server is not None:
            numbers[SERVER] = usage(self.server)
        gc.collect()
        numbers[OURSELVES] = usage(os.getpid())
        return {whose: values for whose, values in numbers.items() if values}
