"""`POST /tokenize`: the tokens of a text, as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import PipelineTask, RequestID, SamplingParams, TextGenerationOutput, TextGenerationRequest

from ..face import Face
from ..json import encode
from ..whole import Whole, WholeAnswer
from .answer import NO_TEXTS
from .parameters import Asked, invalid
from .problems import said

NOTHING_NEW = SamplingParams(max_new_tokens=0, skip_special_tokens=False)


class SourceToken(msgspec.Struct, frozen=True):
    """A token of a text, and the bytes of the text that it stands for."""

    id: int
    text: str
    start: int
    stop: int


async def tokenize(request: Request) -> ASGIApp:
    """A list of tokens. Of the body only `inputs` counts: `truncate` does not shorten it."""
    face = Face.of(request)
    asked = await face.read(request, Asked)
    info = face.model("", PipelineTask.TEXT_GENERATION)
    if not asked.inputs:
        raise invalid("`inputs` cannot be empty")
    wanted = TextGenerationRequest(
        RequestID(), info.name, asked.inputs, echo=True, sampling_params=NOTHING_NEW, token_texts=True
    )
    return Whole(_tokens(face, wanted, asked.inputs))


async def _tokens(face: Face, wanted: TextGenerationRequest, source: str) -> WholeAnswer:
    try:
        output = await face.client.generate(wanted)
    except Exception as error:
        raise said(error) from error
    return WholeAnswer(encode(placed(output, source)))


def placed(output: TextGenerationOutput, source: str) -> Sequence[SourceToken]:
    """The tokens of a prompt, each at its place in `source`. What the tokenizer has added takes no place."""
    texts, data, at = output.token_texts or NO_TEXTS, source.encode(), 0
    tokens: list[SourceToken] = []
    for token, text in zip(output.prompt_tokens, texts.prompt, strict=True):
        own = text.encode()
        stop = at if token in texts.special and not data.startswith(own, at) else min(at + len(own), len(data))
        tokens.append(SourceToken(token, text, at, stop))
        at = stop
    return tokens
