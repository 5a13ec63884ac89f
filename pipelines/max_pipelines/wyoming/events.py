"""What a client may say. The same events as Python's `wyoming` package has, those that are of use to a voice."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from ..http.json import encode
from ..http.problems import VALIDATION, HttpProblem
from .wire import Event

Name = Annotated[str, Meta(max_length=256)]


class Voice(msgspec.Struct, frozen=True):
    """Who is to speak: a voice by its name, or any of a language. No voice here has several speakers."""

    name: Name | None = None
    language: Name | None = None
    speaker: Name | None = None


class Describe(msgspec.Struct, frozen=True):
    """What is there?"""


class Ping(msgspec.Struct, frozen=True):
    """Is anybody there?"""

    text: str | None = None


class SelectProgram(msgspec.Struct, frozen=True):
    """Which of the described programs, here models, is to speak on this connection."""

    name: Name


class SynthesizeStart(msgspec.Struct, frozen=True):
    """A text begins that is still being written. Plain text alone is spoken."""

    voice: Voice | None = None
    text_format: Literal["text"] | None = None


class Synthesize(SynthesizeStart, frozen=True, kw_only=True):
    """Speak this. Between a start and a stop it repeats the whole text, for servers that know no others."""

    text: str


class SynthesizeChunk(msgspec.Struct, frozen=True):
    """More of the text that has begun."""

    text: str


class SynthesizeStop(msgspec.Struct, frozen=True):
    """That text is complete."""


Said: TypeAlias = Describe | Ping | SelectProgram | SynthesizeStart | Synthesize | SynthesizeChunk | SynthesizeStop

KINDS: Mapping[str, type[Said]] = MappingProxyType(
    {
        "describe": Describe,
        "ping": Ping,
        "select-program": SelectProgram,
        "synthesize": Synthesize,
        "synthesize-start": SynthesizeStart,
        "synthesize-chunk": SynthesizeChunk,
        "synthesize-stop": SynthesizeStop,
    }
)


def understood(event: Event) -> Said | None:
    """The event as one of these, None for one that is not for us, as for instance sound. HttpProblem for a bad one."""
    kind = KINDS.get(event.type)
    if kind is None:
        return None
    try:
        return msgspec.json.decode(encode(event.data), type=kind)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise HttpProblem(422, VALIDATION, f"{event.type}: {problem}") from None
