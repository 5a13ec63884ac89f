"""`GET /v1/models`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from max_interfaces.messages import ModelInfo

from .face import Face
from .json import JsonResponse
from .problems import HttpProblem


async def models(request: Request) -> Response:
    """What is served."""
    return JsonResponse({"object": "list", "data": [_model(info) for info in Face.of(request).client.models]})


async def model(request: Request) -> Response:
    """One of them. HttpProblem 404 if it is not served."""
    name = request.path_params["name"]
    for info in Face.of(request).client.models:
        if info.name == name:
            return JsonResponse(_model(info))
    raise HttpProblem(404, "unknown_model", f"no model {name!r} is served here")


def _model(info: ModelInfo) -> dict[str, object]:
    return {"id": info.name, "object": "model", "created": 0, "owned_by": "maxpipe", "task": info.task}
