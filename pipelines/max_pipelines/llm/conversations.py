"""Conversations as vLLM's callers write them: OpenAI's messages, in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta

from max_interfaces import TextGenerationRequestTool

from ..openai_chat import Message, Tool

ChatMessage: TypeAlias = Mapping[str, Any]
Conversation: TypeAlias = Sequence[ChatMessage]
Conversations: TypeAlias = Conversation | Sequence[Conversation]
FormT = TypeVar("FormT")
_MESSAGES = msgspec.json.Decoder(Annotated[list[Message], Meta(max_length=4096)])
_TOOLS = msgspec.json.Decoder(Annotated[list[Tool], Meta(max_length=256)])


def conversations_of(messages: Conversations) -> tuple[list[list[Message]], bool]:
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


def _messages(conversation: Conversation) -> list[Message]:
    if not conversation:
        raise ValueError("messages: a conversation has at least one")
    return _read(conversation, _MESSAGES, "messages")


def _read(given: Sequence[object], form: msgspec.json.Decoder[list[FormT]], where: str) -> list[FormT]:
    try:
        return form.decode(json.dumps(list(given), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as problem:  # msgspec's errors are ValueErrors
        raise ValueError(f"{where}: {problem}") from None
