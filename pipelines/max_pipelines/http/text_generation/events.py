"""The answer as server-sent events, one a token."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator

import msgspec
from msgspec import UNSET, UnsetType

from max_interfaces import TextGenerationOutput

from ..json import encode
from .answer import Token, finish_reason, tokens_of, tops_of


class StreamDetails(msgspec.Struct, frozen=True):
    """What the last event says of the whole."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token; `index` counts from 1. The last one carries the whole text."""

    index: int
    token: Token
    top_tokens: list[Token] | UnsetType = UNSET
    generated_text: str | None
    details: StreamDetails | None


async def events_of(
    outputs: AsyncGenerator[TextGenerationOutput, None], seed: int | None, before: str, details: bool
) -> AsyncGenerator[bytes, None]:
    """The events of one text; `before` stands before the whole text in the last of them.

    There is no `[DONE]`: the last event has the text.
    """
    stream = TokenStream(seed, before, details)
    async with contextlib.aclosing(outputs):  # who leaves cancels at once
        async for output in outputs:
            for event in stream.push(output):
                yield b"data:" + encode(event) + b"\n\n"


class TokenStream:
    """Outputs, as the events of their tokens."""

    def __init__(self, seed: int | None, before: str, details: bool) -> None:
        self._seed = seed
        self._details = details
        self._text = [before]
        self._count = 0
        self._last = Token(0, "", 0.0, special=True)

    def push(self, output: TextGenerationOutput) -> Iterator[Event]:
        """The events of an output's tokens. HttpProblem for an end that is none."""
        reason = finish_reason(output) if output.is_done else ""  # first: half a text is not given as a whole one
        self._text.append(output.text)
        tokens, tops = tokens_of(output), tops_of(output)
        if output.is_done and not tokens:  # a text that went on elsewhere, and had nothing left to say
            tokens, self._count = [msgspec.structs.replace(self._last, text=output.text)], self._count - 1
        for at, token in enumerate(tokens):
            self._count += 1
            self._last = token
            last = output.is_done and at + 1 == len(tokens)
            yield Event(
                index=self._count,
                token=token,
                top_tokens=tops[at] if at < len(tops) else UNSET,
                generated_text="".join(self._text) if last else None,
                details=self._closing(reason, output) if last and self._details else None,
            )

    def _closing(self, reason: str, output: TextGenerationOutput) -> StreamDetails:
        return StreamDetails(reason, self._count, self._seed, output.num_prompt_tokens)
