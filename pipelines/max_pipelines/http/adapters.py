"""`POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`, as MAX and vLLM have them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from max_interfaces import LoRAResponse, LoRAStatus

from ..adapters import OFF
from .face import Face
from .json import JsonResponse
from .problems import INTERNAL, VALIDATION, HttpProblem, asked

LoRAName = Annotated[str, Meta(min_length=1, max_length=256)]

STATUS: Mapping[LoRAStatus, int] = MappingProxyType(
    {
        LoRAStatus.LOAD_NAME_EXISTS: 409,
        LoRAStatus.UNLOAD_NAME_NONEXISTENT: 404,
        LoRAStatus.LOAD_INVALID_PATH: 400,
        LoRAStatus.LOAD_INVALID_ADAPTER: 400,
        LoRAStatus.LOAD_ERROR: 400,
        LoRAStatus.UNLOAD_ERROR: 400,
        LoRAStatus.UNSPECIFIED_ERROR: 500,
    }
)


class LoadBody(msgspec.Struct, frozen=True):
    """An adapter's name to be, and its folder: one in `engine.adapter_folder`, by its path or its name there."""

    lora_name: LoRAName
    lora_path: Annotated[str, Meta(min_length=1, max_length=4096)]


class UnloadBody(msgspec.Struct, frozen=True):
    """The name of an adapter that is loaded."""

    lora_name: LoRAName


class AdapterAnswer(msgspec.Struct, frozen=True):
    """What became of it: `success`."""

    status: str
    message: str


async def load(request: Request) -> Response:
    """Every worker has it. HttpProblem 409 for a name that is taken, 400 for what cannot be loaded, 501 if none may."""
    face = Face.of(request)
    body = await face.read(request, LoadBody)
    model = _model(face)
    with asked():
        return _answered(await face.client.load_adapter(body.lora_name, body.lora_path, model=model), "is loaded", body)


async def unload(request: Request) -> Response:
    """No new request may name it. HttpProblem 404 for a name that is not loaded, 400 for one of the config's, 501."""
    face = Face.of(request)
    body = await face.read(request, UnloadBody)
    model = _model(face)
    with asked():
        return _answered(await face.client.unload_adapter(body.lora_name, model=model), "is unloaded", body)


def _model(face: Face) -> str:
    info = face.served("")
    if not info.loads_adapters:
        raise HttpProblem(501, "not_enabled", OFF)
    return info.name


def _answered(response: LoRAResponse, done: str, body: LoadBody | UnloadBody) -> Response:
    if response.status is LoRAStatus.SUCCESS:
        return JsonResponse(AdapterAnswer(response.status.value, f"{body.lora_name} {done}"))
    status = STATUS[response.status]
    raise HttpProblem(status, INTERNAL if status == 500 else VALIDATION, response.message or response.status.value)
