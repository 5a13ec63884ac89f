"""`/metrics`, in Prometheus's format: what listeners wait for, and how the server is."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from max_interfaces.messages import Report

from .text_metrics import WAITS_S, TextMetrics, TextRequest

FACTORS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
MIME = CONTENT_TYPE_LATEST


class Metrics:
    """One face's own registry."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.answers = Counter("maxpipe_http_answers", "Answers, by status", ["status"], registry=registry)
        self.first_byte = _waits("first_byte", "From a request for speech to its first byte", registry)
        self.first_sample = _waits("first_sample", "From a request for speech to its first sample", registry)
        self.first_audible = _waits("first_audible", "… to its first sample that can be heard", registry)
        self.real_time_factor = Histogram(
            "maxpipe_speech_real_time_factor",
            "Seconds that a second of sound took",
            buckets=FACTORS,
            registry=registry,
        )
        self.underruns = Counter(
            "maxpipe_speech_underruns", "Times that a player would have run dry, if it began at once", registry=registry
        )
        self.tokens = Counter("maxpipe_tokens", "Tokens read, and made", ["kind"], registry=registry)
        self._text = TextMetrics(registry, self.tokens)
        self._server = Gauge("maxpipe_server", "What the dispatcher counts", ["name"], registry=registry)
        self._worker = Gauge("maxpipe_worker", "What a worker counts", ["worker", "name"], registry=registry)
        self._up = Gauge("maxpipe_workers_ready", "Workers that take requests", registry=registry)

    def text_request(
        self, max_new_tokens: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> TextRequest:
        """A request for text has come; the context manager that is to be told what becomes of it."""
        return TextRequest(self._text, max_new_tokens, clock)

    def text(self, report: Report | None) -> bytes:
        """All of them; the server's own where it has answered."""
        self._server.clear()
        self._worker.clear()
        workers = () if report is None else report.workers
        self._up.set(sum(worker.ready and not worker.standby for worker in workers))
        for name, value in ({} if report is None else report.gauges).items():
            self._server.labels(name).set(value)
        for worker in workers:
            counts = {"running": worker.running, "credits": worker.credits, "steps": worker.steps, **worker.gauges}
            for name, value in counts.items():
                self._worker.labels(worker.name, name).set(value)
        return generate_latest(self._registry) + self._text.plain(report)


def _waits(name: str, what: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(f"maxpipe_speech_{name}_seconds", what, buckets=WAITS_S, registry=registry)
