"""The slow, obvious path, which the tests hold the engine to: one sequence at a time, plain transformers, no cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from max_interfaces.identity import RequestID
from max_interfaces.protocols import PromptReport, SequenceStart, TokenDelta
from max_interfaces.text import LogProbabilities

from .attention import PAGED_ATTENTION
from .loading import LoadedModel
from .log_probabilities import prompt_log_probabilities
from .rules import Watermark
from .sampler import Sampler
from .sampling_row import check_start
from .sequence import Sequence


class ReferenceEngine:
    """A `TokenGenerator` that computes every token of every sequence anew in each step.

    It runs whatever transformers does, encoder-decoders too: there the prompt goes into the encoder. With the engine
    it shares the rules of sampling, and nothing else. Its model must not be one that an `Engine` has taken over
    (ValueError).
    """

    def __init__(self, model: LoadedModel, watermark: Watermark | None = None) -> None:
        if model.module.config._attn_implementation == PAGED_ATTENTION:
            raise ValueError(f"{model.name!r} belongs to an Engine: load the model once more for the reference")
        self._model = model
        self._decoder_start = _decoder_start(model) if model.is_encoder_decoder else None
        self._sampler = Sampler(watermark)
        self._sequences: dict[RequestID, Sequence] = {}
        self._told: set[RequestID] = set()  # whose prompt has been reported

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError, naming the field, for what it cannot do."""
        check_start(start, self._model.vocab_size)
        if start.sampling_params.searches:
            width = start.sampling_params.beam_width
            raise ValueError(f"SamplingParams.beam_width = {width}: the reference engine has no beams; leave it None")
        for field in ("kv_bits", "max_kv_size"):
            value = getattr(start.sampling_params, field)
            if value is not None:
                raise ValueError(f"SamplingParams.{field} = {value}: the reference engine keeps no keys and values")
        if start.request_id in self._sequences:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        for field in ("adapter", "prompt_adapter"):
            if getattr(start, field) is not None:
                raise ValueError(f"SequenceStart.{field}: the reference takes no adapters; engine.kind: torch does")
        if start.media:
            raise ValueError("SequenceStart.media: the reference engine runs text alone; engine.kind: torch runs them")
        context = self._model.context_length
        length = len(start.prompt)
        apart = self._decoder_start is not None  # the output has a context of its own
        room = context - 1 if apart else context - length
        longest = context if apart else context - 1
        if length > longest:
            raise ValueError(f"SequenceStart.prompt has {length} tokens: at most {longest} fit")
        if apart and start.sampling_params.prompt_logprobs is not None:
            raise ValueError(
                "SamplingParams.prompt_logprobs: an encoder-decoder does not score its prompt; leave it None"
            )
        wanted = start.sampling_params.max_new_tokens
        self._sequences[start.request_id] = Sequence(start, room if wanted is None else min(wanted, room))

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """One token for each sequence named by `active`. KeyError for an unknown id."""
        ready = [self._sequences[request_id] for request_id in active]
        computed = [None if s.status.is_done else self._next(s) for s in ready]
        deltas: dict[RequestID, TokenDelta] = {}
        for sequence, new in zip(ready, computed, strict=True):
            if sequence.reported:
                continue
            token, chosen, report = new or (None, None, None)
            if token is not None:
                sequence.accept(token)
                self._told.add(sequence.request_id)
            tokens = () if token is None else (token,)
            deltas[sequence.request_id] = TokenDelta(tokens, sequence.status, chosen, report)
            sequence.reported = sequence.status.is_done
        return deltas

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence."""
        self._sequences.pop(request_id, None)
        self._told.discard(request_id)

    @torch.inference_mode()
    def _next(self, sequence: Sequence) -> tuple[int, LogProbabilities | None, PromptReport | None]:
        """The next token, its log probabilities, and, if it is the first, what there is to say of the prompt."""
        logits = self._logits(sequence)
        sampled = self._sampler.sample(logits[-1:].clone(), [sequence.row])
        token = sampled.resolve()[0]
        report = None if sequence.request_id in self._told else self._report(sequence, logits)
        return token, sampled.log_probabilities[0], report

    def _logits(self, sequence: Sequence) -> Tensor:
        """The logits `[tokens, vocabulary]` after all tokens of a sequence, or of its output if the prompt is apart."""
        row = sequence.row
        if self._decoder_start is None:
            inputs = {"input_ids": self._ids([*row.prompt, *row.output])}
        else:
            inputs = {
                "input_ids": self._ids(row.prompt),
                "decoder_input_ids": self._ids([self._decoder_start, *row.output]),
            }
        logits: Tensor = self._model.module(**inputs, use_cache=False).logits[0]
        return logits

    def _report(self, sequence: Sequence, logits: Tensor) -> PromptReport:
        row = sequence.row
        if row.params.prompt_logprobs is None:
            return PromptReport()
        return PromptReport(0, prompt_log_probabilities(logits[: len(row.prompt) - 1], row.prompt[1:], row.params))

    def _ids(self, tokens: Collection[int]) -> Tensor:
        return torch.tensor([list(tokens)], dtype=torch.int64, device=self._model.device)


def _decoder_start(model: LoadedModel) -> int:
    """The id with which a decoder begins. ValueError for a model that names none."""
    for config in (model.module.generation_config, model.module.config):
        token = getattr(config, "decoder_start_token_id", None)
        if isinstance(token, int):
            return token
    raise ValueError(f"cannot run {model.name!r}: an encoder-decoder, but its config has no decoder_start_token_id")
