"""`/health`: this process lives. `/ready`: a request would be served. `/metrics` and `/status`: in numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from max_interfaces import MaxpipeError
from max_interfaces.messages import WorkerReport

from .face import Face
from .json import JsonResponse
from .metrics import MIME
from .problems import HttpProblem


class Status(msgspec.Struct, frozen=True):
    """How the server is: what it counts, and its workers."""

    gauges: Mapping[str, int]
    workers: tuple[WorkerReport, ...]


async def health(request: Request) -> Response:
    """200 as long as anybody can answer."""
    return Response()


async def ready(request: Request) -> Response:
    """200 if a worker that has proved itself takes requests; HttpProblem 503 if none does, or the server is ending."""
    report = await Face.of(request).client.report()
    workers = sum(worker.ready and not worker.standby for worker in report.workers)
    if report.gauges.get("draining"):
        raise HttpProblem(503, "unavailable", "the server is shutting down")
    if not workers:
        raise HttpProblem(503, "unavailable", "no worker is ready")
    return JsonResponse({"workers": workers})


async def metrics(request: Request) -> Response:
    """For Prometheus. While the server does not answer, of the face alone."""
    face = Face.of(request)
    report = None
    with contextlib.suppress(MaxpipeError):
        report = await face.client.report()
    return Response(face.metrics.text(report), media_type=MIME)


async def status(request: Request) -> Response:
    """The `Status`."""
    report = await Face.of(request).client.report()
    return JsonResponse(Status(report.gauges, report.workers))
