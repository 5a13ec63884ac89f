"""How an operation may be refused: statuses, their schemas, and whether it takes a key."""

from __future__ import annotations

from max_interfaces.values import JsonValue

from ..guard import is_open
from ..hosts import OPEN as ANY_NAME
from ..problems import OPENAI
from .operations import TEXT, Operation

REFUSALS = {
    "400": "the body is no JSON, or the request no HTTP",
    "401": "an API key is needed",
    "403": "the name of the host is not one that is served, or a page of another site asks",
    "404": "there is no such model",
    "408": "the request did not come in time",
    "409": "there is one of that name already",
    "413": "the body is too large",
    "415": "the body is said to be of another type",
    "422": "the body has another shape, or asks for what cannot be had",
    "424": "the model has failed",
    "429": "too many ask at once",
    "431": "the request's head is too large",
    "500": "a mistake of the server",
    "501": "this server is not to be changed while it runs",
    "503": "the model is loading, or the server is going",
    "504": "it took too long",
}
OF_ALL = ("400", "403", "408", "431", "500", "503")
OF_BODIES = ("413", "415", "422")
OF_MODELS = ("404", "424", "429", "504")  # where one is asked for an answer
KEY: dict[str, JsonValue] = {
    "key": {"type": "http", "scheme": "bearer"},
    "bearer": {"type": "apiKey", "in": "header", "name": "Bearer"},  # the text-generation API's own
}
ERROR: dict[str, JsonValue] = {
    "type": "object",
    "required": ["error", "error_type"],
    "properties": {"error": TEXT, "error_type": TEXT, "estimated_time": {"type": "number"}},
}
OPENAI_ERROR: dict[str, JsonValue] = {
    **ERROR,
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code"],
            "properties": {"message": TEXT, "type": TEXT, "code": {"type": "integer"}},
        },
        "error_type": TEXT,
    },
}
SCHEMAS: dict[str, JsonValue] = {"Error": ERROR, "OpenAIError": OPENAI_ERROR}


def refusals(operation: Operation, template: str, *, secured: bool) -> dict[str, JsonValue]:
    """The answers that are errors, by status. `template` makes a reference of a `name`."""
    error = template.format(name="OpenAIError" if OPENAI in operation.path else "Error")
    content: JsonValue = {"application/json": {"schema": {"$ref": error}}}
    statuses = _statuses(operation, secured=secured)
    return {status: {"description": REFUSALS[status], "content": content} for status in statuses}


def is_for_all(operation: Operation) -> bool:
    """Whether it needs no key where others do."""
    return is_open(operation.method.upper(), operation.path)


def _statuses(operation: Operation, *, secured: bool) -> list[str]:
    statuses = set(OF_ALL)
    if operation.path in ANY_NAME:
        statuses.discard("403")
    if secured and not is_for_all(operation):
        statuses.add("401")
    if operation.body is not None:
        statuses |= {*OF_BODIES, *OF_MODELS}
    if operation.form is not None:
        statuses |= {*OF_BODIES, "429"}
    statuses |= set(operation.refused)
    if operation.query:
        statuses.add("422")
    if "{name}" in operation.path:
        statuses.add("404")
    return sorted(statuses)
