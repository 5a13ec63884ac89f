"""What goes wrong, as HTTP says it: a status, and `{"error", "error_type"}`.

`error` is a text, as clients of the text-generation API read it; on OpenAI's paths, below /v1/, it is an object with
that text in its `message`, or their SDK would not show it.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from starlette.responses import Response

from max_interfaces import FailureKind, InvalidRequest, MaxpipeError, NotServing, RequestFailed

from .exchange import note_error
from .json import JsonResponse, encode

OPENAI = "/v1/"
VALIDATION, OVERLOADED, GENERATION, INTERNAL = "validation", "overloaded", "generation", "internal"
logger = logging.getLogger(__name__)

STATUS: Mapping[FailureKind, tuple[int, str]] = MappingProxyType(
    {
        FailureKind.INVALID_REQUEST: (422, VALIDATION),
        FailureKind.UNKNOWN_MODEL: (404, "unknown_model"),
        FailureKind.DUPLICATE_ID: (409, VALIDATION),
        FailureKind.OVERLOADED: (429, OVERLOADED),
        FailureKind.SHUTTING_DOWN: (503, "unavailable"),
        FailureKind.CONNECTION_LOST: (503, "unavailable"),
        FailureKind.WORKER_DIED: (503, "unavailable"),
        FailureKind.DEADLINE_EXCEEDED: (504, "timeout"),
        FailureKind.STALLED: (408, "timeout"),
        FailureKind.WORKER_ERROR: (424, GENERATION),
    }
)
"""The statuses and types of the text-generation API, where it has one."""


class HttpProblem(MaxpipeError):
    """A request that gets an error for an answer."""

    def __init__(
        self,
        status: int,
        kind: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        estimated_time: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.headers = dict(headers or {})
        self.estimated_time = estimated_time

    def fields(self, path: str) -> dict[str, object]:
        """What is sent of it on a path."""
        more = {} if self.estimated_time is None else {"estimated_time": self.estimated_time}
        text = str(self)
        error = {"message": text, "type": self.kind, "code": self.status} if OPENAI in path else text
        return {"error": error, "error_type": self.kind, **more}

    def response(self, path: str) -> Response:
        """The answer, as long as nothing else was sent."""
        note_error(self.kind)
        return JsonResponse(self.fields(path), self.status, self.headers)

    def event(self, path: str) -> bytes:
        """The last event of a stream that had begun."""
        note_error(self.kind)
        return b"data: " + encode(self.fields(path)) + b"\n\n"


@contextlib.contextmanager
def asked() -> Iterator[None]:
    """Around what turns a client's fields into a request: a ValueError there is about them, and an InvalidRequest."""
    try:
        yield
    except MaxpipeError:
        raise
    except ValueError as problem:
        raise InvalidRequest(str(problem)) from None


def told(error: Exception) -> HttpProblem:
    """As `problem_of`, for who tells the client: what is a fault of ours is in the log, too."""
    problem = problem_of(error)
    if problem.kind == INTERNAL:
        logger.error("an answer has failed", exc_info=error)
    return problem


def problem_of(error: Exception) -> HttpProblem:
    """An error of the client, or of a request's fields, for whoever asked over HTTP."""
    if isinstance(error, HttpProblem):
        return error
    if isinstance(error, RequestFailed):
        failure = error.failure
        status, kind = STATUS[failure.kind]
        wait = {} if failure.retry_after is None else {"retry-after": str(math.ceil(failure.retry_after))}
        return HttpProblem(status, kind, failure.message or failure.kind.value, wait)
    if isinstance(error, NotServing):
        return HttpProblem(503, "unavailable", str(error))
    if isinstance(error, InvalidRequest):
        return HttpProblem(422, VALIDATION, str(error))
    return HttpProblem(500, INTERNAL, f"{type(error).__name__}: {error}")
