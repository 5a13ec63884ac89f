"""What goes wrong, in the API's words."""

from __future__ import annotations

from max_interfaces import FailureKind, InvalidRequest, RequestFailed

from ..problems import STATUS, HttpProblem, problem_of

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
    text = str(problem)
    if kind is FailureKind.UNKNOWN_MODEL:  # the path's was found: what nobody knows is the adapter
        kind, text = FailureKind.INVALID_REQUEST, f"`adapter_id`: {text}"
    if kind not in WORDS:
        return problem
    status, name = STATUS[kind]
    return HttpProblem(status, name, WORDS[kind] + text, problem.headers)
