"""Conversations as transformers' callers write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from max_interfaces import MessageRole, TextContentPart, TextGenerationRequestMessage
from max_interfaces.text import MediaContentPart, MediaKind

from ..media.given import GivenMedia

Message: TypeAlias = Mapping[str, Any]
Messages: TypeAlias = Sequence[Message]
SOURCES = ("url", "path", "base64")  # beside the kind's own name
TYPES = ("text", *(kind.value for kind in MediaKind))


@dataclass(frozen=True, slots=True, eq=False)
class Chat:
    """A conversation: as it was given, as the road takes it, and what is shown and played in it."""

    given: Messages
    messages: tuple[TextGenerationRequestMessage, ...]
    media: GivenMedia

    @classmethod
    def of(cls, messages: Messages) -> Chat:
        """ValueError, naming where, for a message that is none, or a part without anything in it."""
        read: list[TextGenerationRequestMessage] = []
        found: dict[MediaKind, list[Any]] = {kind: [] for kind in MediaKind}
        for at, message in enumerate(messages):
            name = f"messages[{at}]"
            if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
                raise ValueError(f"{name}: a message has a role and a content")
            read.append(TextGenerationRequestMessage(_role(message["role"], name), _content(message, name, found)))
        images, audios, videos = (tuple(found[kind]) for kind in (MediaKind.IMAGE, MediaKind.AUDIO, MediaKind.VIDEO))
        return cls(messages, tuple(read), GivenMedia(images, audios, videos))

    @property
    def ends_in_answer(self) -> bool:
        """True if the last message is the assistant's, which then is to be gone on with."""
        return bool(self.messages) and self.messages[-1].role is MessageRole.ASSISTANT

    @property
    def parts(self) -> list[dict[str, Any]]:
        """As templates that read parts take it."""
        return [{"role": message.role.value, "content": _templated(message)} for message in self.messages]

    def answered(self, text: str, *, goes_on: bool) -> list[Message]:
        """The conversation as it was given, and what the model has said to it, in its last message if it `goes_on`."""
        if not goes_on:
            return [*self.given, {"role": "assistant", "content": text}]
        last = self.given[-1]
        content = last["content"]
        if isinstance(content, str):
            return [*self.given[:-1], {**last, "content": content + text}]
        *before, part = content
        return [*self.given[:-1], {**last, "content": [*before, {**part, "text": part["text"] + text}]}]


def is_chat(given: object) -> bool:
    """Whether it is a list of messages."""
    return isinstance(given, list | tuple) and bool(given) and isinstance(given[0], Mapping) and "role" in given[0]


def _role(role: object, name: str) -> MessageRole:
    try:
        return MessageRole(str(role))
    except ValueError:
        known = ", ".join(one.value for one in MessageRole)
        raise ValueError(f"{name}.role = {role!r:.80}: must be one of {known}") from None


def _content(
    message: Message, name: str, found: dict[MediaKind, list[Any]]
) -> str | tuple[TextContentPart | MediaContentPart, ...]:
    content = message["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise ValueError(f"{name}.content: must be a text, or a list of parts")
    return tuple(_part(part, f"{name}.content[{at}]", found) for at, part in enumerate(content))


def _part(part: object, name: str, found: dict[MediaKind, list[Any]]) -> TextContentPart | MediaContentPart:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind not in TYPES or not isinstance(part, Mapping):
        raise ValueError(f"{name}.type = {kind!r:.80}: must be one of {', '.join(TYPES)}")
    if kind == "text":
        if not isinstance(part.get("text"), str):
            raise ValueError(f"{name}: a part of type text has a text")
        return TextContentPart(part["text"])
    named = next((part[key] for key in (kind, *SOURCES) if part.get(key) is not None), None)
    if named is None:
        raise ValueError(f"{name}: a part of type {kind} has one of {', '.join((kind, *SOURCES))}")
    found[MediaKind(kind)].append(named)
    return MediaContentPart(MediaKind(kind))


def _templated(message: TextGenerationRequestMessage) -> list[dict[str, str]]:
    content = (TextContentPart(message.content),) if isinstance(message.content, str) else message.content
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextContentPart)
        else {"type": part.kind.value, part.kind.value: ""}
        for part in content
    ]
