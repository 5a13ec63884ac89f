"""`POST /v1/chat/completions`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import PipelineTask, TextGenerationOutput, TextGenerationRequest

from ...client.outputs import join_texts
from ...media.given import EncodedMedia
from .. import sse
from ..face import Chosen, Face
from ..problems import asked
from ..streaming import Streamed
from ..whole import Whole, WholeAnswer
from .audio import AnswerSound
from .chat_body import ChatBody
from .chat_text import ChatText
from .heading import Heading
from .many import outputs_of


class Chat:
    """A conversation that is answered."""

    def __init__(self, face: Face, body: ChatBody, chosen: Chosen, path: str, media: EncodedMedia) -> None:
        """HttpProblem or ValueError for what cannot be asked for."""
        self._face = face
        self._body = body
        self._offer = body.offer()
        self._echoed = body.echoed
        self._heading = Heading("chat.completion", chosen.name, body.includes_usage)
        self._sound: AnswerSound | None = None
        spoken, voice = body.spoken, None
        if spoken is not None:
            voice = spoken.voice_of(face, chosen.info)
            self._sound = AnswerSound(face, chosen.info, spoken, self._heading.created)
        request = body.request(chosen.info.name, path, self._offer, media, voice)
        self._request: TextGenerationRequest = replace(request, adapter_id=chosen.adapter)

    async def whole(self) -> WholeAnswer:
        """All answers, when they are complete."""
        outputs = [output async for output in self._outputs()]
        return self._heading.whole([self._text(text.index).whole(text) for text in join_texts(outputs)])

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answers while they are made."""
        texts = {index: self._text(index) for index in range(self._body.choices)}
        async with contextlib.aclosing(self._outputs()) as outputs:
            async for output in outputs:
                for chunk in texts[output.index].chunks(output):
                    yield self._heading.event(chunk)
        yield self._heading.closing()

    async def _outputs(self) -> AsyncGenerator[TextGenerationOutput, None]:
        async with contextlib.aclosing(outputs_of(self._face, [self._request])) as numbered:
            async for _, output in numbered:
                self._heading.counted.add(output)
                yield output

    def _text(self, index: int) -> ChatText:
        return ChatText(index, self._offer, echoed=self._echoed, logprobs=bool(self._body.logprobs), sound=self._sound)


async def chat(request: Request) -> ASGIApp:
    """The answer, or its events if `stream` is set; on `/models/{name}/…` that model's, whatever the body says."""
    face, path = Face.of(request), request.url.path
    body = await face.read(request, ChatBody)
    name = request.path_params.get("name") or body.model or ""
    chosen = await face.chosen(name, PipelineTask.TEXT_GENERATION)
    with asked():
        answer = Chat(face, body, chosen, path, await face.media.read(body.media, chosen.info))
    if body.stream:
        return Streamed(answer.events(), sse.MIME, sse.HEADERS, lambda problem: problem.event(path))
    return Whole(answer.whole())
