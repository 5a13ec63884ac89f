"""Conversations as vLLM's callers write them: OpenAI's messages, in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta

from max_interfaces import Json, TextGenerationRequestMessage, TextGenerationRequestTool

from ..openai_chat import Message, Tool

ChatMessage: TypeAlias = Mapping[str, Any]
Conversation: TypeAlias = Sequence[ChatMessage]
Conversations: TypeAlias = Conversation | Sequence[Conversation]
FormT = TypeVar("FormT")
_MESSAGES = msgspec.json.Decoder(Annotated[list[Message], Meta(max_length=4096)])
_TOOLS = msgspec.json.Decoder(Annotated[list[Tool], Meta(max_length=256)])


def conversations_of(messages: Conversations) -> tuple[list[tuple[TextGenerationRequestMessage, ...]], bool]:
    """All conversations of a call, and whether it was one that was no list. ValueError for what is none."""
    if not messages:
        raise ValueError("messages: must not be empty")
    single = isinstance(messages[0], Mapping)
    given = [cast(Conversation, messages)] if single else cast(Sequence[Conversation], messages)
    return [_messages(one) for one in given], single


def tools_of(tools: Sequence[Mapping[str, Any]] | None) -> tuple[TextGenerationRequestTool, ...]:
    """What the model is offered. ValueError for what is no function."""
    if not tools:
        return ()
    return tuple(tool.read() for tool in _read(tools, _TOOLS, "tools"))


def _messages(conversation: Conversation) -> tuple[TextGenerationRequestMessage, ...]:
    if not conversation:
        raise ValueError("messages: a conversation has at least one")
    return tuple(message.read() for message in _read(conversation, _MESSAGES, "messages"))


def _read(given: Sequence[object], form: msgspec.json.Decoder[list[FormT]], where: str) -> list[FormT]:
    try:
        return form.decode(Json.of(list(given), where).text)
    except msgspec.ValidationError as problem:
        raise ValueError(f"{where}: {problem}") from None
