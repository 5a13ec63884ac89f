"""What comes back, with vLLM's fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from max_interfaces import GenerationStatus, LogProbabilities, TextGenerationOutput
from max_interfaces.text import GenerationStatistics, TokenTexts

from .adapters import LoRARequest

REASONS = {
    GenerationStatus.END_OF_SEQUENCE: "stop",
    GenerationStatus.STOP_SEQUENCE: "stop",
    GenerationStatus.MAXIMUM_LENGTH: "length",
    GenerationStatus.CANCELLED: "abort",
    GenerationStatus.FAILED: "error",
    GenerationStatus.DEADLINE_EXCEEDED: "error",
}


@dataclass
class Logprob:
    """One token's log probability; `rank` counts from 1, None for a token that is not among the likeliest asked for."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


Logprobs = list[dict[int, Logprob]]


@dataclass
class CompletionOutput:
    """One completion. `finish_reason` is stop, length, abort, error, or None while it goes on.

    `stop_reason` is the stop text or id that ended it, None for an end of sequence. `cumulative_logprob` is known if
    `logprobs` were asked for.
    """

    index: int
    text: str
    token_ids: Sequence[int]
    cumulative_logprob: float | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    lora_request: LoRARequest | None = None

    def finished(self) -> bool:
        """True once it goes on no more."""
        return self.finish_reason is not None


@dataclass
class RequestOutput:
    """One prompt and its completions; in a batch, one that failed has `error`, and a completion that says so.

    `metrics` is what the request cost.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: Sequence[int] | None
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    outputs: list[CompletionOutput] = field(default_factory=list)
    finished: bool = False
    metrics: GenerationStatistics | None = None
    lora_request: LoRARequest | None = None
    encoder_prompt: str | None = None
    encoder_prompt_token_ids: Sequence[int] | None = None
    num_cached_tokens: int | None = None
    error: Exception | None = None


def completion(given: TextGenerationOutput, lora: LoRARequest | None, *, logprobs: bool) -> CompletionOutput:
    """One of the road's outputs, whole or in part, as vLLM has it."""
    chosen = given.log_probabilities if logprobs else None
    ended = given.sequence_status if given.sequence_status.is_done else given.final_status
    return CompletionOutput(
        given.index,
        given.text,
        given.tokens,
        None if chosen is None else sum(chosen.token_log_probabilities),
        None if chosen is None else rows(given.tokens, chosen, given.token_texts),
        REASONS.get(ended),
        given.stop if ended is GenerationStatus.STOP_SEQUENCE else None,
        lora,
    )


def failed(request_id: str, prompt: str | None, ids: Sequence[int] | None, problem: Exception) -> RequestOutput:
    """The place in a batch of a prompt that could not be served."""
    empty = CompletionOutput(0, "", (), finish_reason="error")
    return RequestOutput(request_id, prompt, ids, outputs=[empty], finished=True, error=problem)


def rows(tokens: Sequence[int], given: LogProbabilities, texts: TokenTexts | None) -> Logprobs:
    """For each token the likeliest and itself."""
    found: Logprobs = []
    spelled: Mapping[int, str] = {} if texts is None else texts.top
    own = texts.tokens if texts is not None else ()
    for at, (token, value) in enumerate(zip(tokens, given.token_log_probabilities, strict=True)):
        top = given.top_log_probabilities[at] if given.top_log_probabilities else {}
        ranked = sorted(top.items(), key=lambda entry: -entry[1])
        row = {other: Logprob(score, rank, spelled.get(other)) for rank, (other, score) in enumerate(ranked, 1)}
        if token not in row:
            row = {token: Logprob(value, None, own[at] if at < len(own) else None), **row}
        found.append(row)
    return found
