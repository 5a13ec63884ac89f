"""A collector of traces on a real socket: what it is sent, it decodes and keeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_S = 60.0


class Collector:
    """Answers only while it is `open`."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.asked = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.news = threading.Condition()
        self.url = ""

    def wait_for(self, count: int) -> list[Span]:
        """The spans, once there are so many."""
        with self.news:
            assert self.news.wait_for(lambda: len(self.spans) >= count, PATIENCE_S), f"{len(self.spans)} of {count}"
        return list(self.spans)

    def take(self, body: bytes) -> None:
        """What somebody has sent."""
        self.asked.set()
        self.open.wait(PATIENCE_S)
        with self.news:
            for part in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in part.resource.attributes}
                self.services.add(named["service.name"])
                self.spans += [span for scope in part.scope_spans for span in scope.spans]
            self.news.notify_all()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.take(body)
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.shutdown()
        serving.join()
        server.server_close()


def attributes(span: Span) -> dict[str, Any]:
    """A span's, as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value") or "") for each in span.attributes}
