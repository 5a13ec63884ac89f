"""`POST /`, `/generate`, `/generate_stream` and `/models/{name}`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import InvalidRequest, PipelineTask, TextGenerationOutput, TextGenerationRequest
from max_interfaces.messages import ModelInfo

from ...client.outputs import join_texts
from ...raw_json import NULL
from .. import bodies, sse
from ..face import Face
from ..guard import key_of
from ..json import encode
from ..problems import HttpProblem, asked
from ..speech import speak_inputs
from ..streaming import Streamed, while_present
from ..text_outputs import text_outputs
from ..whole import Whole, WholeAnswer
from .answer import answer_of
from .cache import cache_key
from .events import events_of
from .headers import Timing
from .parameters import Asked, Options, Parameters, check, check_room, request_of
from .problems import said

FALSE = ("false", "0", "no", "off")
UNBOUNDED = 2**31
ABSENT = Parameters(do_sample=True)  # only a body without any parameters at all is sampled by default


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A text that is to be generated, and how its answer looks."""

    face: Face
    info: ModelInfo
    given: Parameters
    request: TextGenerationRequest
    timing: Timing
    before: str  # what stands before the text in the answer

    @property
    def seed(self) -> int | None:
        """The seed that the answer tells: tokens that are not drawn need none."""
        return self.request.sampling_params.seed if self.given.samples else None

    async def outputs(self) -> AsyncGenerator[TextGenerationOutput, None]:
        """What is generated. HttpProblem as the API says it."""
        try:
            async with contextlib.aclosing(text_outputs(self.face, self.request, self._check_room)) as outputs:
                async for output in outputs:
                    yield output
        except Exception as error:
            raise said(error) from error

    def _check_room(self, output: TextGenerationOutput) -> None:
        check_room(output.num_prompt_tokens, self.given.max_new_tokens, _room(self.info))


async def compatible(request: Request) -> ASGIApp:
    """`POST /` and `/models/{name}`: a list with one answer, as the hosted API has it, or the sound of a voice."""
    return await _serve(request, listed=True)


async def generate(request: Request) -> ASGIApp:
    """`POST /generate`: the answer; its events if the body asks for them."""
    return await _serve(request)


async def generate_stream(request: Request) -> ASGIApp:
    """`POST /generate_stream`: its events, whatever the body says."""
    return await _serve(request, stream=True)


async def _serve(request: Request, *, listed: bool = False, stream: bool = False) -> ASGIApp:
    face = Face.of(request)
    body = await face.read(request, Asked)
    options = body.options or Options()
    if _says_yes(request, "x-wait-for-model", options.wait_for_model, otherwise=False):
        await while_present(request.receive, face.wait_loaded(face.config.text.wait_for_model_s))
    info = face.served(request.path_params.get("name", ""))
    if info.task == PipelineTask.AUDIO_GENERATION.value and listed:
        return speak_inputs(face, info, body.inputs, body.parameters)
    face.check_task(info, PipelineTask.TEXT_GENERATION)
    stream = stream or body.stream
    try:
        task = _task(face, info, body, stream, listed, request.url.path)
    except HttpProblem as problem:
        face.metrics.text_request().failed(problem.kind)
        raise
    if stream:
        events = events_of(task.outputs(), task.seed, task.before, bool(task.given.details))
        headers = {**task.timing.early(), **sse.HEADERS}
        return Streamed(events, sse.MIME, headers, lambda problem: problem.event(request.url.path))
    cached = _says_yes(request, "x-use-cache", options.use_cache, otherwise=True) and _is_deterministic(task)
    return Whole(_whole(task, _cache_key(task, key_of(request.scope), listed) if cached else None, listed))


def _task(face: Face, info: ModelInfo, body: Asked, stream: bool, listed: bool, path: str) -> Task:
    """HttpProblem 422 for what cannot be served."""
    timing = Timing(face.device, body.inputs)
    given = ABSENT if body.parameters == NULL else bodies.shaped(body.parameters, Parameters)
    check(body.inputs, given, stream, face.config.text, _room(info))
    try:
        with asked():
            request = request_of(body, given, info, path)
    except InvalidRequest as problem:
        raise said(problem) from None
    full = listed if given.return_full_text is None else given.return_full_text
    timing.checked()
    return Task(face, info, given, request, timing, body.inputs if full else "")


def _room(info: ModelInfo) -> int:
    """The tokens of a prompt and its answer together; of a model that names no bound, as many as you like."""
    return info.max_tokens or UNBOUNDED


async def _whole(task: Task, key: bytes | None, listed: bool) -> WholeAnswer:
    """The whole answer, from the cache if it may come from there and is there."""
    cache = task.face.answers
    if key is not None and (known := cache.get(key)) is not None:
        return WholeAnswer(known.body, {**known.headers, "x-cache": "hit"})
    outputs = [output async for output in task.outputs()]
    answer = answer_of(join_texts(outputs), task.given, task.seed, task.before)
    body = encode([answer] if listed else answer)
    headers = task.timing.whole(outputs[-1])
    if key is not None:
        cache.put(key, body, headers)
    return WholeAnswer(body, {**headers, "x-cache": "miss"})


def _cache_key(task: Task, caller: str, listed: bool) -> bytes:
    request, form = task.request, (task.before, task.given.wants_details, listed)
    return cache_key(caller, request.model_name, request.prompt, request.sampling_params, request.adapter_id, form)


def _is_deterministic(task: Task) -> bool:
    """Whether the same will be answered the next time: nothing is drawn, or by a seed that the caller gave, and no name
    of an adapter may have come to mean other weights.
    """
    changes = task.info.loads_adapters and task.given.adapter_id is not None
    return not changes and (not task.given.samples or task.given.seed is not None)


def _says_yes(request: Request, header: str, option: bool | None, *, otherwise: bool) -> bool:
    """A switch that is a header, or in the body an option."""
    value = request.headers.get(header)
    if value is not None:
        return value.strip().lower() not in FALSE
    return otherwise if option is None else option
