"""Messages and tools of a conversation, as OpenAI writes them, in a body or in Python."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from max_interfaces import (
    Json,
    MessageRole,
    TextContentPart,
    TextGenerationRequestFunction,
    TextGenerationRequestMessage,
    TextGenerationRequestTool,
)
from max_interfaces.values import JsonValue

from .raw_json import described, json_of, null

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=2**22)]
NO_PARAMETERS: dict[str, JsonValue] = {"type": "object", "properties": {}, "additionalProperties": False}
CALLS = described("array", items={"type": "object"})
ROLES = {"developer": MessageRole.SYSTEM}  # the newer word for it, which no template knows


class Part(msgspec.Struct, frozen=True):
    """A piece of a message: `text`, or the `refusal` of an assistant."""

    type: Annotated[str, Meta(max_length=64)]
    text: Text | None = None
    refusal: Text | None = None

    @property
    def said(self) -> TextContentPart:
        """Its text. ValueError for a piece that is none."""
        text = {"text": self.text, "refusal": self.refusal}.get(self.type)
        if self.type not in ("text", "refusal"):
            raise ValueError(f"messages.content: a part of type {self.type!r}; this model reads text only")
        if text is None:
            raise ValueError(f"messages.content: a part of type {self.type!r} has no {self.type}")
        return TextContentPart(text)


class Message(msgspec.Struct, frozen=True):
    """One of them. A `name` is ignored: no template has a place for it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[Part], Meta(max_length=1024)] | None = None
    tool_calls: Annotated[msgspec.Raw, CALLS] = msgspec.field(default_factory=null)
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None
    reasoning_content: Text | None = None

    def read(self) -> TextGenerationRequestMessage:
        """As the engine takes it. ValueError for a part that is no text."""
        content = self.content or ""
        calls = json_of(self.tool_calls, "messages.tool_calls")
        return TextGenerationRequestMessage(
            ROLES.get(self.role) or MessageRole(self.role),
            content if isinstance(content, str) else tuple(part.said for part in content),
            None if calls is not None and calls.value == [] else calls,
            self.tool_call_id or None,
            self.reasoning_content,
        )


class Function(msgspec.Struct, frozen=True):
    """A function that can be called; `parameters` is a JSON schema."""

    name: Name
    description: Annotated[str, Meta(max_length=4096)] | None = None
    parameters: Annotated[msgspec.Raw, described("object")] = msgspec.field(default_factory=null)
    strict: bool | None = None

    @property
    def schema(self) -> dict[str, JsonValue]:
        """Of its arguments, which are an object. ValueError for a schema of anything else."""
        given = json_of(self.parameters, f"tools.{self.name}.parameters")
        value = NO_PARAMETERS if given is None else given.value
        if not isinstance(value, dict) or value.get("type", "object") != "object":
            raise ValueError(f"tools.{self.name}.parameters: must be the JSON schema of an object")
        return {"type": "object", **value}

    def read(self) -> TextGenerationRequestFunction:
        """As the engine takes it."""
        return TextGenerationRequestFunction(
            self.name, self.description, Json.of(self.schema, "tools"), bool(self.strict)
        )


class Tool(msgspec.Struct, frozen=True):
    """A tool; there are no others than functions."""

    function: Function
    type: Literal["function"] = "function"

    def read(self) -> TextGenerationRequestTool:
        """As the engine takes it."""
        return TextGenerationRequestTool(self.function.read())
