"""The document, made of the types that the endpoints read and write."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from max_interfaces.values import JsonValue

from ..face import Face
from ..json import JsonResponse
from ..speech_body import SpeechParameters
from ..text_generation.parameters import Asked, Parameters
from .operations import OPERATIONS, TEXT, Content, Operation
from .refusals import KEY, SCHEMAS, is_for_all, refusals

TEMPLATE = "#/components/schemas/{name}"
SUCCESS = "200"


async def openapi(request: Request) -> Response:
    """The document."""
    return JsonResponse(document(secured=Face.of(request).config.keys is not None))


def document(*, secured: bool) -> dict[str, Any]:
    """OpenAPI 3.1, as plain values. `secured` says whether a key is needed."""
    schemas = Schemas()
    paths: dict[str, dict[str, JsonValue]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, schemas, secured=secured)
    components: dict[str, JsonValue] = {"schemas": schemas.components}
    whole: dict[str, JsonValue] = {
        "openapi": "3.1.0",
        "info": {"title": "maxpipe", "version": version("maxpipe")},
        "paths": paths,  # type: ignore[dict-item]
        "components": components,
    }
    if secured:
        components["securitySchemes"] = KEY
        whole["security"] = [{name: []} for name in KEY]
    return whole


class Schemas:
    """The schemas of all bodies and answers, those of Structs by reference."""

    def __init__(self) -> None:
        kinds: list[Any] = [Parameters, SpeechParameters]
        kinds += [operation.body for operation in OPERATIONS if operation.body is not None]
        kinds += [kind for operation in OPERATIONS for kind in operation.answers.values() if not _written(kind)]
        kinds = list({repr(kind): kind for kind in kinds}.values())
        made, components = msgspec.json.schema_components(kinds, ref_template=TEMPLATE)
        self._made = {repr(kind): schema for kind, schema in zip(kinds, made, strict=True)}
        self.components: dict[str, JsonValue] = {**components, **SCHEMAS}
        # Read once it is known what the model does, so that the type alone does not say it.
        forms: list[JsonValue] = [self.of(Parameters), self.of(SpeechParameters), {"type": "null"}]
        asked: Any = components[Asked.__name__]
        asked["properties"]["parameters"] = {"anyOf": forms}

    def of(self, kind: object) -> JsonValue:
        """The schema of a type, or the one that was written by hand."""
        found: JsonValue = kind if _written(kind) else self._made[repr(kind)]  # type: ignore[assignment]
        return found


def _written(kind: object) -> bool:
    return isinstance(kind, dict)


def _operation(operation: Operation, schemas: Schemas, *, secured: bool) -> JsonValue:
    responses = refusals(operation, TEMPLATE, secured=secured)
    responses[SUCCESS] = {"description": operation.summary, **_content(operation.answers, schemas)}
    told: dict[str, JsonValue] = {"summary": operation.summary, "responses": responses}
    if secured and is_for_all(operation):
        told["security"] = []
    if parameters := _parameters(operation):
        told["parameters"] = parameters
    if operation.body is not None:
        told["requestBody"] = {"required": True, **_content({"application/json": operation.body}, schemas)}
    if operation.form is not None:
        told["requestBody"] = {"required": True, **_content({"multipart/form-data": operation.form}, schemas)}
    return told


def _content(content: Content, schemas: Schemas) -> dict[str, JsonValue]:
    if not content:
        return {}
    return {"content": {media: {"schema": schemas.of(kind)} for media, kind in content.items()}}


def _parameters(operation: Operation) -> list[JsonValue]:
    names = re.findall(r"{(\w+)}", operation.path)
    in_path: list[JsonValue] = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
    return in_path + [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query]
