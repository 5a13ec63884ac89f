"""Beam search in vLLM's words: what is asked of one, and what comes back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from max_interfaces import BeamRule
from max_interfaces import SamplingParams as OurParams

from .adapters import LoRARequest
from .guided import GuidedDecodingParams
from .outputs import CompletionOutput, Logprobs, RequestOutput
from .prompts import TokensPrompt
from .sampling import SamplingParams

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_EFFECT = {  # fields that are taken and change nothing
    "temperature": "no token is drawn, and scores are the model's own log probabilities",
    "include_stop_str_in_output": "a search has no stop texts",
}


@dataclass
class BeamSearchParams:
    """vLLM's parameters of a beam search, with its names and defaults.

    There are no penalties and no stop texts in one: TypeError for their names, as for any other. What changes nothing
    is warned of. ValueError, by these names, for what is out of its bounds.
    Source: https://docs.vllm.ai (BeamSearchParams, 0.6.4 and 0.32).
    """

    beam_width: int
    max_tokens: int
    ignore_eos: bool = False
    temperature: float = 0.0
    length_penalty: float = 1.0
    include_stop_str_in_output: bool = False
    structured_outputs: GuidedDecodingParams | None = None
    skip_special_tokens: bool = True
    watermarking: bool | None = None

    def __post_init__(self) -> None:
        if self.watermarking:
            raise ValueError("BeamSearchParams.watermarking = True: beams are not drawn, and so bear no mark")
        for name, reason in NO_EFFECT.items():
            if getattr(self, name):
                text = f"BeamSearchParams.{name} = {getattr(self, name)}: has no effect ({reason})"
                warnings.warn(text, stacklevel=3)
        self.searching().translated()

    def searching(self) -> SearchingParams:
        """As the parameters of a request for all that the search finds."""
        try:
            return SearchingParams(
                temperature=0.0,
                max_tokens=self.max_tokens,
                ignore_eos=self.ignore_eos,
                logprobs=0,
                detokenize=False,  # the text is that of prompt and output in one
                structured_outputs=self.structured_outputs,
                beam_width=self.beam_width,
                length_penalty=self.length_penalty,
            )
        except ValueError as problem:
            raise ValueError(str(problem).replace("SamplingParams", "BeamSearchParams")) from None


@dataclass
class SearchingParams(SamplingParams):
    """A request's parameters, for a search by vLLM's rule."""

    beam_width: int = 1
    length_penalty: float = 1.0

    def translated(
        self, seed: int | None = None, processors: Sequence[str] = (), kv_bits: int | None = None
    ) -> OurParams:
        """As the road takes them. ValueError for what is out of its bounds."""
        searched = replace(
            super().translated(seed, processors, kv_bits),
            beam_width=self.beam_width,
            length_penalty=self.length_penalty,
            beam_rule=BeamRule.VLLM,
        )
        return replace(searched, n=self.beam_width, logprobs=2 * self.beam_width)  # all texts, and all looked at


@dataclass
class BeamSearchSequence:
    """A text that was found: `tokens` and `text` are those of prompt and output, an end of sequence among them.

    `cum_logprob` is the sum of the new tokens' log probabilities, `logprobs` has for each of them the likeliest that
    were looked at. `finish_reason` is stop, for an end of sequence, or length. `text` is None without a tokenizer.
    """

    orig_prompt: TokensPrompt
    tokens: list[int]
    logprobs: Logprobs
    lora_request: LoRARequest | None = None
    cum_logprob: float = 0.0
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class BeamSearchOutput:
    """The texts that were found after one prompt, the best first; in a list, a prompt that failed has the `error`."""

    sequences: list[BeamSearchSequence] = field(default_factory=list)
    error: Exception | None = None


def found(answer: RequestOutput, tokenizer: PreTrainedTokenizerBase | None, *, skip_special: bool) -> BeamSearchOutput:
    """What the search of one request has come to."""
    if answer.error is not None:
        return BeamSearchOutput(error=answer.error)
    prompt = TokensPrompt(prompt_token_ids=list(answer.prompt_token_ids or ()))
    if answer.prompt is not None:
        prompt["prompt"] = answer.prompt
    sequences = [_sequence(one, prompt) for one in answer.outputs]
    if tokenizer is not None:
        for one in sequences:
            one.text = str(tokenizer.decode(one.tokens, skip_special_tokens=skip_special))
    return BeamSearchOutput(sequences)


def _sequence(one: CompletionOutput, prompt: TokensPrompt) -> BeamSearchSequence:
    return BeamSearchSequence(
        prompt,
        [*prompt["prompt_token_ids"], *one.token_ids],
        one.logprobs or [],
        one.lora_request,
        one.cumulative_logprob or 0.0,
        finish_reason=one.finish_reason,
    )
