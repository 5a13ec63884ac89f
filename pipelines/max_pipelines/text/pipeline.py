"""The text pipeline: one token generator, many requests at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from max_engines.random_stream import child_seed
from max_engines.tokenizer import TextTokenizer
from max_interfaces import (
    Attempt,
    Chunk,
    DeviceLost,
    Failure,
    FailureKind,
    GenerationStatus,
    RequestID,
    SequenceStart,
    TextGenerationOutput,
    TextGenerationRequest,
    TokenDelta,
)

from ..engines import ServedGenerator
from ..problems import failure_of, report, sendable
from .answer import Answer
from .drawing import check_drawing
from .perceiving import Perceiver, has_media
from .plan import TextPlan, plan_of
from .preparing import Constrainer, Preparation, Prepared
from .prompting import TextPrompter
from .ranking import check_held
from .resuming import progress
from .speaking import check_voice

TextChunk = Chunk[TextGenerationOutput]
BEGIN_S = 0.05  # how long a step may spend on reading prompts and on encoders, but for the last prompt or layer
ENCODERS_S = 120.0  # of large encoders on a slow core; whoever is silent for longer is taken for hung
LAYER_S = 10.0  # of one layer of theirs
UNTOLD_S = 0.5  # a step that may take longer is told of by `step_s` before
POLL_S = 0.01  # how long a step with nothing else to do waits for what is being prepared


class TextPipeline:
    """Prompts in, tokens from the generator, text out. See `Pipeline` for who calls what when.

    A request that waits for its template, its media or its grammar is admitted at once. If it comes to nothing, the
    request ends with the reason, and nobody else has waited for it.
    """

    def __init__(
        self,
        served: ServedGenerator,
        tokenizer: TextTokenizer,
        peak_memory: Callable[[], int],
        perceiver: Perceiver,
    ) -> None:
        self._generator, self._encoding = served.generator, served.encoding
        self._step_s = served.step_s
        self._tokenizer = tokenizer
        ends = served.eos_token_ids | tokenizer.eos_token_ids  # each of them knows some models' ids alone
        self._eos_token_ids = frozenset(token for token in ends if token < served.vocab_size)
        self._vocab_size, self._max_length = served.vocab_size, served.max_length
        self._prompter = TextPrompter(tokenizer, served.max_length, served.adapters, perceiver=perceiver)
        self._constrainer = Constrainer(tokenizer, served.vocab_size, self._eos_token_ids)
        self._peak_memory = peak_memory
        self._voices, self._sample_rate = served.voices, served.sample_rate
        self._draws = served.draws
        self._preparing: dict[RequestID, Preparation] = {}
        self._answers: dict[RequestID, Answer] = {}
        self._owners: dict[RequestID, Answer] = {}  # by the ids that the generator knows

    def start(self) -> None:
        """Start what conversations and grammars need, so that the first does not wait for it."""
        self._prompter.start()
        self._constrainer.start()

    def admit(self, attempt: Attempt[TextGenerationRequest]) -> None:
        """Take a request. ValueError for what this model cannot do."""
        request = attempt.request
        plan = plan_of(request, self._tokenizer, self._eos_token_ids)
        check_voice(request.voice, plan, self._voices)
        check_drawing(request, draws=self._draws)
        earlier = progress(attempt.tokens, plan.sequences)
        adapters = self._prompter.adapters(request)
        rendering = self._prompter.rendering(request)
        compiling = self._constrainer.compiling(request)
        preparation = Preparation(
            attempt, plan, earlier, self._prompter, self._constrainer, rendering, compiling, adapters
        )
        self._preparing[request.request_id] = preparation
        self._begin(preparation, None)

    def execute(self, active: Collection[RequestID]) -> Sequence[TextChunk]:
        """One step of the generator; then text for the sequences that have new tokens."""
        begun = len(self._answers)
        chunks = self._begin_prepared(active) if self._preparing else []
        if len(self._answers) > begun and self._step_s() > UNTOLD_S:
            return chunks
        keys = [
            key for request_id in active if request_id in self._answers for key in self._answers[request_id].running
        ]
        if not keys:
            self._wait(active)
            return chunks
        for key, delta in self._generator.step(keys).items():
            answer = self._owners.get(key)
            if answer is not None:  # else another sequence of its request has failed in this step
                chunks += self._take(answer, key, delta)
        return chunks

    def step_s(self) -> float:
        """How long the next step may take, in seconds, as long as there are prompts, images or sounds that it may have.

        Encoders that pause have one layer of it, others all of theirs.
        """
        if not any(has_media(one.attempt.request) for one in self._preparing.values()):
            return self._step_s()
        return max(self._step_s(), ENCODERS_S if self._encoding is None else LAYER_S)

    def release(self, request_id: RequestID) -> None:
        """Forget a request, and all its sequences."""
        preparation = self._preparing.pop(request_id, None)
        if preparation is not None:
            preparation.cancel()
        answer = self._answers.pop(request_id, None)
        if answer is not None:
            for key in answer.running:
                self._drop(key)

    def close(self) -> None:
        """End the processes beside this one. No request may be running."""
        self._prompter.close()
        self._constrainer.close()

    def _take(self, answer: Answer, key: RequestID, delta: TokenDelta) -> list[TextChunk]:
        """What is to be told of one sequence. What goes wrong with it ends its request alone: the step is done."""
        try:
            chunks = answer.take(key, delta)
        except DeviceLost:
            raise
        except Exception as problem:
            del self._answers[answer.request_id]
            for own in [own for own, owner in self._owners.items() if owner is answer]:
                self._drop(own)
            return [_failure(answer.request_id, problem)]
        if key not in answer.running:
            self._drop(key)
        return chunks

    def _begin_prepared(self, active: Collection[RequestID]) -> list[TextChunk]:
        """Start what is ready now. One that cannot be served gets its last chunk; it is kept until its release.

        After one that took long the rest wait for the next step: others want their tokens meanwhile. Encoders have
        what time is left by prompts without media, or else go on by a layer.
        """
        until = time.monotonic() + BEGIN_S
        waiting = [self._preparing[request_id] for request_id in active if request_id in self._preparing]
        refused: list[TextChunk] = []
        for turn in ([one for one in waiting if one.perceiving is None], [one for one in waiting if one.perceiving]):
            for preparation in turn:
                refused += self._tried(preparation, until)
                if time.monotonic() >= until:
                    break
        return refused

    def _tried(self, preparation: Preparation, until: float) -> list[TextChunk]:
        """Begin with one, if it is ready; the last chunk of one that cannot be served."""
        request_id = preparation.attempt.request.request_id
        try:
            self._begin(preparation, until)
        except ValueError as problem:
            return [_refusal(request_id, problem)]
        except DeviceLost:
            raise
        except Exception as problem:
            return [_failure(request_id, problem)]
        return []

    def _begin(self, preparation: Preparation, until: float | None) -> None:
        """Give the sequences of a request to the generator, if it is ready. ValueError if it cannot be served.

        Its encoders run until then, or not at all.
        """
        prepared = preparation.poll()
        if prepared is None or not self._encoded(preparation, prepared, until):
            return
        self._check_held(preparation.plan, len(prepared.prompt))
        answer = Answer(preparation, prepared.prompt, self._tokenizer, self._peak_memory, self._sample_rate)
        try:
            for key, sequence in answer.running.items():
                self._generator.add(self._start(key, sequence.index, preparation, prepared))
                self._owners[key] = answer
        except Exception:
            for key in answer.running:
                self._drop(key)
            raise
        self._answers[answer.request_id] = answer
        del self._preparing[answer.request_id]

    def _encoded(self, preparation: Preparation, prepared: Prepared, until: float | None) -> bool:
        """True if its sequences can begin; else encoders go on with its images and sounds."""
        if not prepared.media or self._encoding is None:
            return True
        if until is None:
            return False
        if preparation.encoding is None:
            preparation.encoding = self._encoding(prepared.prompt, prepared.media)
        return preparation.encoding.advance(until - time.monotonic())

    def _check_held(self, plan: TextPlan, length: int) -> None:
        room, wanted = self._max_length - length, plan.sampling_params.max_new_tokens
        check_held(plan, room if wanted is None else min(wanted, room), self._vocab_size)

    def _start(self, key: RequestID, index: int, preparation: Preparation, prepared: Prepared) -> SequenceStart:
        attempt, plan = preparation.attempt, preparation.plan
        params, accepted = plan.sampling_params, tuple(preparation.earlier[index].tokens)
        if (index or accepted) and params.prompt_logprobs is not None:
            params = replace(params, prompt_logprobs=None)  # the prompt is the same for all: the first one tells, once
        return SequenceStart(
            key,
            prepared.prompt,
            params,
            child_seed(attempt.seed, index),
            self._eos_token_ids,
            self._constrainer.constraint(prepared.prompt, params, prepared.grammar),
            accepted,
            plan.bad_words,
            attempt.options.priority,
            attempt.options.tenant,
            attempt.request.adapter_id,
            attempt.request.prompt_adapter_id,
            prepared.media,
            attempt.request.voice,
            attempt.next_sample,
            attempt.request.guidance,
        )

    def _wait(self, active: Collection[RequestID]) -> None:
        """With nothing to do but wait, wait a little for the first that is being prepared."""
        waiting = [self._preparing[request_id] for request_id in active if request_id in self._preparing]
        if waiting and all(one.encoding is None for one in waiting):
            waiting[0].wait(POLL_S)

    def _drop(self, key: RequestID) -> None:
        self._generator.release(key)
        self._owners.pop(key, None)


def _refusal(request_id: RequestID, problem: Exception) -> TextChunk:
    return _end(request_id, Failure(FailureKind.INVALID_REQUEST, sendable(str(problem))))


def _failure(request_id: RequestID, problem: Exception) -> TextChunk:
    report(problem)
    return _end(request_id, failure_of(problem))


def _end(request_id: RequestID, failure: Failure) -> TextChunk:
    failed = GenerationStatus.FAILED
    return Chunk(request_id, TextGenerationOutput(request_id, (), failed, failure=failure, sequence_status=failed))
