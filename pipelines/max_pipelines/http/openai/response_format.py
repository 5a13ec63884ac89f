"""The form that an answer must have, in OpenAI's words or in those of TGI and the hub's client."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from max_interfaces import Json, TextGenerationResponseFormat

from ...raw_json import described, json_of, null

TEXT = "text"


class Form(NamedTuple):
    """What the engine is asked for: a grammar, or a response format, or neither."""

    grammar: Json | None = None
    response_format: TextGenerationResponseFormat | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """`text`; `json_object`; `json_schema` with OpenAI's `json_schema` {name, schema, strict}.

    Or, as TGI has it, `json`, `json_object`, `json_schema` or `regex` with a `value`.
    """

    type: Annotated[str, Meta(max_length=64)]
    json_schema: Annotated[msgspec.Raw, described("object", "string")] = msgspec.field(default_factory=null)
    value: Annotated[msgspec.Raw, described("object", "string", "array")] = msgspec.field(default_factory=null)

    def read(self) -> Form:
        """As the engine takes it, which knows the types and reads the schema. ValueError for one that is too large."""
        value = _of_kind(json_of(self.value, "response_format.value"), dict, str, list)
        schema = _of_kind(json_of(self.json_schema, "response_format.json_schema"), dict, str)
        if self.type == TEXT:
            return Form()
        if value is not None:
            return Form(grammar=Json.of({"type": self.type, "value": value.value}, "response_format"))
        return Form(response_format=TextGenerationResponseFormat(self.type, schema))


def _of_kind(given: Json | None, *kinds: type[dict[str, object]] | type[str] | type[list[object]]) -> Json | None:
    """What is given, if that can be read at all. ValueError for what is no schema, however it is written."""
    if given is not None and not isinstance(given.value, kinds):
        raise ValueError(f"response_format: {given.text[:80]} is no JSON schema; it must be an object, or a string")
    return given
