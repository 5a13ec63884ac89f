"""`POST /tokenize` and `/chat_tokenize`: the tokens of a text, or of a conversation, as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import PipelineTask, RequestID, SamplingParams, TextGenerationOutput, TextGenerationRequest

from ..face import Face
from ..json import encode
from ..openai.chat_body import ChatBody
from ..problems import asked
from ..whole import Whole, WholeAnswer
from .answer import NO_TEXTS
from .parameters import NOT_EMPTY, invalid
from .problems import said

NOTHING_NEW = SamplingParams(max_new_tokens=0, skip_special_tokens=False)


class Source(msgspec.Struct, frozen=True):
    """A text. The rest of a request may stand beside it: nothing of it counts, not even `truncate`."""

    inputs: Annotated[str, Meta(max_length=2**21), NOT_EMPTY]


class SourceToken(msgspec.Struct, frozen=True):
    """A token of a text, and the bytes of the text that it stands for."""

    id: int
    text: str
    start: int
    stop: int


class TokenizedChat(msgspec.Struct, frozen=True):
    """A conversation as the model's template writes it, and its tokens."""

    tokenize_response: Sequence[SourceToken]
    templated_text: str


async def tokenize(request: Request) -> ASGIApp:
    """A list of tokens."""
    face = Face.of(request)
    body = await face.read(request, Source)
    info = face.model("", PipelineTask.TEXT_GENERATION)
    if not body.inputs:
        raise invalid("`inputs` cannot be empty")
    with asked():
        wanted = TextGenerationRequest(RequestID(), info.name, body.inputs)
    return Whole(_tokens(face, wanted, body.inputs))


async def chat_tokenize(request: Request) -> ASGIApp:
    """The body is one of a chat."""
    face = Face.of(request)
    body = await face.read(request, ChatBody)
    info = (await face.chosen(body.model or "", PipelineTask.TEXT_GENERATION)).info
    with asked():
        media = await face.media.read(body.media, info)
        wanted = body.request(info.name, request.url.path, body.offer(), media)
    return Whole(_chat_tokens(face, wanted))


async def _tokens(face: Face, wanted: TextGenerationRequest, source: str) -> WholeAnswer:
    return WholeAnswer(encode(placed(await _prompt(face, wanted), source)))


async def _chat_tokens(face: Face, wanted: TextGenerationRequest) -> WholeAnswer:
    output = await _prompt(face, wanted)
    return WholeAnswer(encode(TokenizedChat(placed(output, output.text), output.text)))


async def _prompt(face: Face, wanted: TextGenerationRequest) -> TextGenerationOutput:
    """Nothing but the prompt of a request, spelled."""
    try:
        return await face.client.generate(replace(wanted, echo=True, token_texts=True, sampling_params=NOTHING_NEW))
    except Exception as error:
        raise said(error) from error


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
