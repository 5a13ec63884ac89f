"""Messages and tools of a conversation, as OpenAI writes them, in a body or in Python."""

from __future__ import annotations

from collections.abc import Iterable
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
from max_interfaces.text import MAX_MEDIA_BYTES, MediaContentPart, MediaKind
from max_interfaces.values import JsonValue

from .media.given import GivenMedia
from .raw_json import described, json_of, null

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Text = Annotated[str, Meta(max_length=2**22)]
File = Annotated[str, Meta(min_length=1, max_length=2 * MAX_MEDIA_BYTES)]  # base64 has a third more characters
PARTS = ("text", "refusal", "image_url", "input_audio", "video_url")
NO_PARAMETERS: dict[str, JsonValue] = {"type": "object", "properties": {}, "additionalProperties": False}
CALLS = described("array", items={"type": "object"})
ROLES = {"developer": MessageRole.SYSTEM}  # the newer word for it, which no template knows


class ImageUrl(msgspec.Struct, frozen=True):
    """An image, by a data: URL, or where such are fetched, any other. Its `detail` changes nothing."""

    url: File
    detail: Annotated[str, Meta(max_length=64)] | None = None


class InputAudio(msgspec.Struct, frozen=True):
    """A sound, in base64. Its bytes tell their format, whatever `format` says."""

    data: File
    format: Annotated[str, Meta(max_length=64)] | None = None


class VideoUrl(msgspec.Struct, frozen=True):
    """A film, by a data: URL, or where such are fetched, any other."""

    url: File


class Part(msgspec.Struct, frozen=True):
    """A piece of a message: `text`, the `refusal` of an assistant, `image_url`, `input_audio` or `video_url`."""

    type: Annotated[str, Meta(max_length=64)]
    text: Text | None = None
    refusal: Text | None = None
    image_url: ImageUrl | None = None
    input_audio: InputAudio | None = None
    video_url: VideoUrl | None = None

    def read(self) -> TextContentPart | MediaContentPart:
        """Its text, or the place of its image, sound or film. ValueError for a piece that is none."""
        match self.type, getattr(self, self.type, None) if self.type in PARTS else None:
            case _, str(text):
                return TextContentPart(text)
            case _, ImageUrl():
                return MediaContentPart(MediaKind.IMAGE)
            case _, InputAudio():
                return MediaContentPart(MediaKind.AUDIO)
            case _, VideoUrl():
                return MediaContentPart(MediaKind.VIDEO)
        if self.type not in PARTS:
            raise ValueError(f"messages.content: a part of type {self.type!r}; there are {', '.join(PARTS)}")
        raise ValueError(f"messages.content: a part of type {self.type!r} has no {self.type}")


class Spoken(msgspec.Struct, frozen=True):
    """An answer that was spoken, as OpenAI's SDK gives it back: what was said of it, or its id alone."""

    id: Annotated[str, Meta(max_length=256)]
    transcript: Text | None = None


class Message(msgspec.Struct, frozen=True):
    """One of them. A `name` is ignored: no template has a place for it."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | Annotated[list[Part], Meta(max_length=1024)] | None = None
    tool_calls: Annotated[msgspec.Raw, CALLS] = msgspec.field(default_factory=null)
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None
    reasoning_content: Text | None = None
    audio: Spoken | None = None

    def read(self) -> TextGenerationRequestMessage:
        """As the engine takes it; what its media are is left out. ValueError for a part that is none."""
        content = self.content or self._transcript
        calls = json_of(self.tool_calls, "messages.tool_calls")
        return TextGenerationRequestMessage(
            ROLES.get(self.role) or MessageRole(self.role),
            content if isinstance(content, str) else tuple(part.read() for part in content),
            None if calls is not None and calls.value == [] else calls,
            self.tool_call_id or None,
            self.reasoning_content,
        )

    @property
    def _transcript(self) -> str:
        """What a message without content has said aloud."""
        if self.audio is not None and self.audio.transcript is None:
            raise ValueError(
                f"messages.audio.id = {self.audio.id!r:.80}: no sound is kept; give its transcript as content"
            )
        return "" if self.audio is None else self.audio.transcript or ""


def media_in(messages: Iterable[Message]) -> GivenMedia:
    """What is shown and played in messages, in its order."""
    parts = [part for one in messages if isinstance(one.content, list) for part in one.content]
    return GivenMedia(
        tuple(part.image_url.url for part in parts if part.type == "image_url" and part.image_url),
        tuple(part.input_audio.data for part in parts if part.type == "input_audio" and part.input_audio),
        tuple(part.video_url.url for part in parts if part.type == "video_url" and part.video_url),
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
