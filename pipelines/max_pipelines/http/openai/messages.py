"""The messages of a conversation, as OpenAI writes them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from max_interfaces import MessageRole, TextContentPart, TextGenerationRequestMessage

from ..json import described, json_of, null

Text = Annotated[str, Meta(max_length=2**22)]
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
