"""Joining and ending the outputs of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    EmbeddingsGenerationOutput,
    Failure,
    FailureKind,
    GenerationStatus,
    LogProbabilities,
    RequestFailed,
    TextGenerationOutput,
    TextGenerationRequest,
)
from max_interfaces.messages import Ended
from max_interfaces.text import TokenTexts
from max_interfaces.wire import AnyOutput, AnyRequest

BROKEN = (GenerationStatus.FAILED, GenerationStatus.DEADLINE_EXCEEDED)


def terminal_output(request: AnyRequest, status: GenerationStatus) -> AnyOutput:
    """An empty last output, for an end that no worker sent."""
    if isinstance(request, AudioGenerationRequest):
        return AudioGenerationOutput(status, 0)
    if isinstance(request, TextGenerationRequest):
        return TextGenerationOutput(request.request_id, (), status)
    return EmbeddingsGenerationOutput(final_status=status)


def failure_of(ended: Ended) -> Failure | None:
    """Why a request ended, if it did so with a reason."""
    return None if ended.kind is None else Failure(ended.kind, ended.message, ended.retry_after)


def raise_if_broken(status: GenerationStatus, failure: Failure | None) -> None:
    """RequestFailed for an end that is none the caller asked for: a cancel with a reason is the server's own."""
    if status in BROKEN or (status is GenerationStatus.CANCELLED and failure is not None):
        raise RequestFailed(failure or Failure(FailureKind.WORKER_ERROR, f"ended as {status.value} without a reason"))


def join_audio(outputs: Sequence[AudioGenerationOutput]) -> AudioGenerationOutput:
    """The whole sound in one output."""
    last = outputs[-1]
    audio = np.concatenate([output.audio_data for output in outputs])
    steps = sum(output.steps_executed for output in outputs)
    rate = last.metadata.sample_rate
    duration = audio.size / rate if rate else None
    words = tuple(word for output in outputs for word in output.metadata.words)
    metadata = replace(last.metadata, chunk_id=0, duration=duration, tokens_generated=steps, words=words)
    return rebuilt(last, audio_data=audio, steps_executed=steps, metadata=metadata)


def rebuilt(output: AudioGenerationOutput, **fields: object) -> AudioGenerationOutput:
    """`output` with other fields. RequestFailed if a worker sent samples that are not finite: this checks them."""
    try:
        return replace(output, **fields)  # type: ignore[arg-type]
    except ValueError as problem:
        raise RequestFailed(Failure(FailureKind.WORKER_ERROR, str(problem))) from None


def join_texts(outputs: Sequence[TextGenerationOutput]) -> tuple[TextGenerationOutput, ...]:
    """The whole text of each sequence of a request, in the order of their `index`.

    What is the request's, its prompt and its statistics, is in all of them. `final_status` is how the sequence ended,
    or the request, if that ended first.
    """
    groups: dict[int, list[TextGenerationOutput]] = {0: []}
    for output in outputs:
        groups.setdefault(output.index, []).append(output)
    if len(groups) > 1 and not groups[0]:
        del groups[0]
    return tuple(_joined(groups[index], outputs) for index in sorted(groups))


def _joined(group: Sequence[TextGenerationOutput], outputs: Sequence[TextGenerationOutput]) -> TextGenerationOutput:
    """One sequence's outputs in one, with what the others say of the request."""
    first, last = outputs[0], outputs[-1]
    end = next((output for output in group if output.sequence_status.is_done), group[-1])
    return replace(
        end,
        tokens=tuple(token for output in group for token in output.tokens),
        text="".join(output.text for output in group),
        log_probabilities=LogProbabilities.joined([output.log_probabilities for output in group]),
        final_status=end.sequence_status if end.sequence_status.is_done else last.final_status,
        num_prompt_tokens=first.num_prompt_tokens,
        prompt_tokens=next((output.prompt_tokens for output in outputs if output.prompt_tokens), ()),
        prompt_log_probabilities=next(
            (given for output in outputs if (given := output.prompt_log_probabilities) is not None), None
        ),
        statistics=last.statistics,
        token_texts=_spelled(group, outputs),
        audio_data=_sounding([output.audio_data for output in group]),
    )


def _sounding(pieces: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """The whole sound of a text; None if there is none."""
    given = [piece for piece in pieces if piece is not None]
    return np.concatenate(given) if given else None


def _spelled(group: Sequence[TextGenerationOutput], outputs: Sequence[TextGenerationOutput]) -> TokenTexts | None:
    """What one sequence's ids stand for, and those of the prompt, which one sequence tells for all."""
    texts = TokenTexts.joined([output.token_texts for output in group])
    told = (output.token_texts for output in outputs if output.token_texts is not None)
    prompt = next((one for one in told if one.prompt), None)
    if texts is None or prompt is None or texts.prompt:
        return texts
    return replace(texts, prompt=prompt.prompt, special=tuple({*texts.special, *prompt.special}))
