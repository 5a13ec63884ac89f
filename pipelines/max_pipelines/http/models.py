"""`GET /v1/models`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from max_interfaces.messages import ModelInfo

from .face import Face
from .json import JsonResponse
from .problems import HttpProblem


async def models(request: Request) -> Response:
    """What is served, and which adapters are loaded."""
    models = await Face.of(request).models()
    return JsonResponse({"object": "list", "data": [entry for info in models for entry in _entries(info)]})


async def model(request: Request) -> Response:
    """One of them. HttpProblem 404 if it is not served."""
    name = request.path_params["name"]
    for info in await Face.of(request).models():
        for entry in _entries(info):
            if entry["id"] == name:
                return JsonResponse(entry)
    raise HttpProblem(404, "unknown_model", f"no model {name!r} is served here")


def _entries(info: ModelInfo) -> list[dict[str, object]]:
    """The model, and each of its adapters as a model of its own, whose `parent` it is."""
    model = {"id": info.name, "object": "model", "created": 0, "owned_by": "maxpipe", "task": info.task}
    return [model, *({**model, "id": adapter, "parent": info.name} for adapter in info.adapters)]
