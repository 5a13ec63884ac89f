"""What goes wrong, in the API's words."""

from __future__ import annotations

from max_interfaces import FailureKind, InvalidRequest, RequestFailed

from ..problems import HttpProblem, problem_of

WORDS = {
    FailureKind.INVALID_REQUEST: "Input validation error: ",
    FailureKind.OVERLOADED: "Model is overloaded: ",
    FailureKind.WORKER_ERROR: "Request failed during generation: ",
}


def said(error: Exception) -> HttpProblem:
    """An error with the words before it that clients of the API know."""
    problem = problem_of(error)
    kind = error.failure.kind if isinstance(error, RequestFailed) else None
    if isinstance(error, InvalidRequest):
        kind = FailureKind.INVALID_REQUEST
    if kind not in WORDS:
        return problem
    return HttpProblem(problem.status, problem.kind, WORDS[kind] + str(problem), problem.headers)
