"""The form that an answer must have, in OpenAI's words or in those of TGI and the hub's client."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from max_interfaces import Json, TextGenerationResponseFormat

from ..json import json_of, null

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
    json_schema: msgspec.Raw = msgspec.field(default_factory=null)
    value: msgspec.Raw = msgspec.field(default_factory=null)

    def read(self) -> Form:
        """As the engine takes it, which knows the types and reads the schema. ValueError for one that is too large."""
        if self.type == TEXT:
            return Form()
        value = json_of(self.value, "response_format.value")
        if value is not None:
            return Form(grammar=Json.of({"type": self.type, "value": value.value}, "response_format"))
        schema = json_of(self.json_schema, "response_format.json_schema")
        return Form(response_format=TextGenerationResponseFormat(self.type, schema))
