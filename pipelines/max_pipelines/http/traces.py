"""A span for each request, sent to an OpenTelemetry collector, if one is configured.

Spans are sent by a thread of their own from a queue with a bound: a collector that is slow or away loses spans, and
no request notices.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from max_interfaces import ConfigError

from .exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")
PATH = "/v1/traces"  # of every OTLP collector
MAX_WAITING = 2048  # spans
BATCH = 256  # spans a message
EACH_MS = 1000.0  # how often they are sent
SENDING_S = 5.0  # what sending a batch may take, with what is tried again
LAST_S = 0.5  # what sending the rest may take at the end: the server then waits no longer
NANO = 1_000_000_000


def check_traces(endpoint: str | None) -> None:
    """ConfigError if spans are to be sent and the packages for it are not there."""
    try:
        found = endpoint is None or all(find_spec(name) is not None for name in PACKAGES)
    except ModuleNotFoundError:  # not even the package that it would be in
        found = False
    if not found:
        raise ConfigError('http.traces: OpenTelemetry is not installed; do `pip install "maxpipe[otel]"`')


@contextmanager
def tracing_to(endpoint: str | None) -> Iterator[Tracing | None]:
    """Spans go to an OTLP collector; nothing is done without one. ConfigError as `check_traces`."""
    check_traces(endpoint)
    if endpoint is None:
        yield None
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    base = endpoint.rstrip("/")
    tracing = Tracing(OTLPSpanExporter(base if urlsplit(base).path else base + PATH, timeout=SENDING_S))
    try:
        yield tracing
    finally:
        tracing.close()


class Tracing:
    """Makes spans of requests, after the semantic conventions for HTTP servers, and gives them to an exporter."""

    def __init__(self, exporter: SpanExporter) -> None:
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({SERVICE_NAME: "maxpipe"}).merge(OTELResourceDetector().detect())  # the environment
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, MAX_WAITING, EACH_MS, BATCH))
        self._tracer = self._provider.get_tracer("max_pipelines.http")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, exchange: Exchange, scope: Scope) -> Span:
        """The span of a request that has come, below its caller's if the request says so."""
        from opentelemetry.trace import SpanKind, format_trace_id

        context = None
        headers = Headers(scope=scope)
        if "traceparent" in headers:
            context = self._propagator.extract({name: headers.get(name, "") for name in self._propagator.fields})
        began = int(exchange.began_at * NANO)
        span = self._tracer.start_span(exchange.method, context, SpanKind.SERVER, start_time=began)
        exchange.trace_id = format_trace_id(span.get_span_context().trace_id)
        return span

    def end(self, span: Span, exchange: Exchange, scope: Scope) -> None:
        """The request has ended."""
        from opentelemetry.trace import Status, StatusCode

        if span.is_recording():
            route = getattr(scope.get("route"), "path", "")
            if route:
                span.update_name(f"{exchange.method} {route}")
                span.set_attribute("http.route", route)
            span.set_attributes(_attributes(exchange, scope))
            if exchange.first_byte_s is not None:
                span.add_event("first_byte", timestamp=int((exchange.began_at + exchange.first_byte_s) * NANO))
            if exchange.client_left:
                span.add_event("client_left", timestamp=int((exchange.began_at + exchange.took_s) * NANO))
            if exchange.failed:
                span.set_status(Status(StatusCode.ERROR))
        span.end(int((exchange.began_at + exchange.took_s) * NANO))

    def close(self) -> None:
        """Send what waits, within a moment: a collector that is away keeps nobody from ending."""
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(LAST_S)


def _attributes(exchange: Exchange, scope: Scope) -> dict[str, AttributeValue]:
    """What the conventions name, and what they have no name for below our own. No query, no header but one."""
    server = scope.get("server") or ("", None)
    known: dict[str, AttributeValue | None] = {
        "http.request.method": exchange.method,
        "url.path": exchange.path,
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version"),
        "server.address": server[0] or None,
        "server.port": server[1],
        "http.response.status_code": exchange.status or None,
        "http.response.body.size": exchange.bytes_sent,
        "error.type": exchange.error_type or (str(exchange.status) if exchange.status >= 500 else None),
        "gen_ai.usage.input_tokens": exchange.input_tokens,
        "gen_ai.usage.output_tokens": exchange.output_tokens,
        "maxpipe.request_id": exchange.request_id,
        "maxpipe.first_byte_s": exchange.first_byte_s,
        "maxpipe.client_left": exchange.client_left,
    }
    return {name: value for name, value in known.items() if value is not None}
