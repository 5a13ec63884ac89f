"""What a conversation is made of: messages, tools, and the form of the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from ..bounds import Bounded, LongText, Name, ShortText
from ..values import Json


class MessageRole(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class TextContentPart(Bounded):
    """A piece of a message that is text."""

    text: LongText


class MediaKind(StrEnum):
    """What a media item is; one field of the request holds the bytes of each kind, in order."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"


@dataclass(frozen=True, slots=True)
class MediaContentPart(Bounded):
    """The place in a message of the request's next media item of this kind."""

    kind: MediaKind


ContentParts = Annotated[tuple[TextContentPart | MediaContentPart, ...], Meta(max_length=1024)]


@dataclass(frozen=True, slots=True)
class TextGenerationRequestFunction(Bounded):
    """A function that the model may call; `parameters` is its JSON schema."""

    name: Name
    description: ShortText | None = None
    parameters: Json = field(default_factory=lambda: Json("{}"))
    strict: bool = False


@dataclass(frozen=True, slots=True)
class TextGenerationRequestTool(Bounded):
    """A tool offered to the model."""

    function: TextGenerationRequestFunction
    type: Annotated[str, Meta(max_length=64)] = "function"


@dataclass(frozen=True, slots=True)
class TextGenerationResponseFormat(Bounded):
    """The form the answer must have: `text`, `json_object`, or `json_schema` with the schema."""

    type: Annotated[str, Meta(max_length=64)]
    json_schema: Json | None = None


@dataclass(frozen=True, slots=True)
class TextGenerationRequestMessage(Bounded):
    """One message of a conversation. `content` is text, or parts in order."""

    role: MessageRole
    content: LongText | ContentParts = ""
    tool_calls: Json | None = None
    tool_call_id: Name | None = None
    reasoning_content: LongText | None = None

    def media(self, kind: MediaKind) -> int:
        """How many media items of `kind` this message places."""
        if isinstance(self.content, str):
            return 0
        return sum(isinstance(part, MediaContentPart) and part.kind is kind for part in self.content)

    def flatten_content(self) -> str:
        """The text parts joined by newlines."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if isinstance(part, TextContentPart))


Messages = Annotated[tuple[TextGenerationRequestMessage, ...], Meta(max_length=4096)]
Tools = Annotated[tuple[TextGenerationRequestTool, ...], Meta(max_length=256)]
