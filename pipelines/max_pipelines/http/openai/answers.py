"""The objects of an answer, by the names of OpenAI's API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from max_interfaces import GenerationStatus, TextGenerationOutput

from ..problems import HttpProblem
from .audio import Audio
from .logprobs import ChoiceLogprobs, LegacyLogprobs
from .usage import Usage

Kind: TypeAlias = Literal["chat.completion", "chat.completion.chunk", "text_completion"]
FINGERPRINT = "maxpipe"
FINISHED = {
    GenerationStatus.END_OF_SEQUENCE: "stop",
    GenerationStatus.STOP_SEQUENCE: "stop",
    GenerationStatus.MAXIMUM_LENGTH: "length",
}


class CalledFunction(msgspec.Struct, frozen=True):
    """A function and its arguments, JSON in a string. A stream names it once, and goes on with its arguments."""

    name: str | UnsetType = UNSET
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call. `index` says in a stream which one."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: CalledFunction


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What the model says; with calls its content may be null, and is so where it is spoken."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """More of a message."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET
    audio: Audio | UnsetType = UNSET


class ChatChoice(msgspec.Struct, frozen=True):
    """One answer."""

    index: int
    message: Message
    logprobs: ChoiceLogprobs | None
    finish_reason: str


class ChunkChoice(msgspec.Struct, frozen=True):
    """More of one answer."""

    index: int
    delta: Delta
    logprobs: ChoiceLogprobs | None = None
    finish_reason: str | None = None


class TextChoice(msgspec.Struct, frozen=True):
    """One completion, or more of it."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None = None
    finish_reason: str | None = None


Choices: TypeAlias = Sequence[ChatChoice | ChunkChoice | TextChoice]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, or an event of one: `usage` is null there until the last."""

    id: str
    object: Kind
    created: int
    model: str
    choices: Choices
    usage: Usage | UnsetType | None = UNSET
    system_fingerprint: str = FINGERPRINT


def finish_reason(output: TextGenerationOutput) -> str | None:
    """How the text of an output ended; None if it goes on. HttpProblem for one that did not come to its end."""
    own, final = output.sequence_status, output.final_status
    status = final if own is GenerationStatus.ACTIVE or (final.is_done and final not in FINISHED) else own
    if status is GenerationStatus.ACTIVE:
        return None
    reason = FINISHED.get(status)
    if reason is None:
        raise HttpProblem(503, "unavailable", f"the request did not come to its end: {status.value}")
    return reason
