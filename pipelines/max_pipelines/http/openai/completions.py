"""`POST /v1/completions`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import PipelineTask, TextGenerationOutput

from ...client.outputs import join_texts
from .. import sse
from ..face import Chosen, Face
from ..problems import asked
from ..streaming import Streamed
from ..whole import Whole, WholeAnswer
from .answers import TextChoice
from .completion_text import CompletionText
from .completions_body import CompletionBody
from .heading import Heading
from .many import Numbered, outputs_of


class Completion:
    """Texts that are gone on from. The i-th answer to a prompt has the index `prompt * n + i`."""

    def __init__(self, face: Face, body: CompletionBody, chosen: Chosen, path: str) -> None:
        """HttpProblem or ValueError for what cannot be asked for."""
        self._face = face
        self._body = body
        requests = body.requests(chosen.info.name, path)
        self._requests = [replace(request, adapter_id=chosen.adapter) for request in requests]
        self._heading = Heading("text_completion", chosen.name, body.includes_usage)

    async def whole(self) -> WholeAnswer:
        """All answers, when they are complete."""
        outputs: list[list[TextGenerationOutput]] = [[] for _ in self._requests]
        async for number, output in self._outputs():
            outputs[number].append(output)
        choices: list[TextChoice] = []
        for number, given in enumerate(outputs):
            first, *_ = texts = join_texts(given)
            choices += [self._text(number, text.index).push(text, first) for text in texts]
        return self._heading.whole(choices)

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answers while they are made."""
        texts: dict[tuple[int, int], CompletionText] = {}
        async with contextlib.aclosing(self._with_firsts()) as outputs:
            async for number, output, first in outputs:
                key = number, output.index
                if key not in texts:
                    texts[key] = self._text(*key)
                yield self._heading.event(texts[key].push(output, first))
        yield self._heading.closing()

    async def _with_firsts(self) -> AsyncGenerator[tuple[int, TextGenerationOutput, TextGenerationOutput], None]:
        """Each output with the one that tells the prompt of its request, which others have to wait for."""
        firsts: dict[int, TextGenerationOutput] = {}
        waiting: list[list[TextGenerationOutput]] = [[] for _ in self._requests]
        async with contextlib.aclosing(self._outputs()) as outputs:
            async for number, output in outputs:
                waiting[number].append(output)
                if output.prompt_tokens or output.is_done or not self._body.tells_prompt:
                    firsts.setdefault(number, output)
                if number in firsts:
                    given, waiting[number] = waiting[number], []
                    for one in given:
                        yield number, one, firsts[number]

    async def _outputs(self) -> AsyncGenerator[Numbered, None]:
        async with contextlib.aclosing(outputs_of(self._face, self._requests)) as numbered:
            async for number, output in numbered:
                self._heading.counted.add(output)
                yield number, output

    def _text(self, number: int, index: int) -> CompletionText:
        return CompletionText(number * self._body.choices + index, self._body)


async def complete(request: Request) -> ASGIApp:
    """The answer, or its events if `stream` is set; on `/models/{name}/…` that model's, whatever the body says."""
    face, path = Face.of(request), request.url.path
    body = await face.read(request, CompletionBody)
    name = request.path_params.get("name") or body.model or ""
    chosen = await face.chosen(name, PipelineTask.TEXT_GENERATION)
    with asked():
        answer = Completion(face, body, chosen, path)
    if body.stream:
        return Streamed(answer.events(), sse.MIME, sse.HEADERS, lambda problem: problem.event(path))
    return Whole(answer.whole())
