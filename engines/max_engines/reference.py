"""The slow, obvious path, which the tests hold the engine to: one sequence at a time, plain transformers, no cache."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta

from .attention import PAGED_ATTENTION
from .loading import LoadedModel
from .sampler import Sampler
from .sampling_row import check_start
from .sequence import Sequence


class ReferenceEngine:
    """A `TokenGenerator` that computes every token of every sequence anew in each step.

    It shares with the engine the rules of sampling, and nothing else. Its model must not be one that an `Engine` has
    taken over (ValueError).
    """

    def __init__(self, model: LoadedModel) -> None:
        if model.module.config._attn_implementation == PAGED_ATTENTION:
            raise ValueError(f"{model.name!r} belongs to an Engine: load the model once more for the reference")
        self._model = model
        self._sampler = Sampler()
        self._sequences: dict[RequestID, Sequence] = {}

    def add(self, start: SequenceStart) -> None:
        """Take a sequence. ValueError for what it cannot do."""
        check_start(start, self._model.vocab_size)
        if start.request_id in self._sequences:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        room = self._model.context_length - len(start.prompt)
        if room < 1:
            raise ValueError(
                f"SequenceStart.prompt has {len(start.prompt)} tokens: at most {self._model.context_length - 1} fit"
            )
        wanted = start.sampling_params.max_new_tokens
        self._sequences[start.request_id] = Sequence(start, room if wanted is None else min(wanted, room))

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """One token for each sequence named by `active`."""
        ready = [self._sequences[request_id] for request_id in active]
        tokens = [[] if s.status.is_done else [self._next(s)] for s in ready]
        deltas: dict[RequestID, TokenDelta] = {}
        for sequence, new in zip(ready, tokens, strict=True):
            for token in new:
                sequence.accept(token)
            if not sequence.reported:
                deltas[sequence.request_id] = TokenDelta(tuple(new), sequence.status)
                sequence.reported = sequence.status.is_done
        return deltas

    def release(self, request_id: RequestID) -> None:
        """Forget a sequence."""
        self._sequences.pop(request_id, None)

    @torch.inference_mode()
    def _next(self, sequence: Sequence) -> int:
        ids = torch.tensor([sequence.tokens(0, sequence.length)], device=self._model.device)
        logits = self._model.module(input_ids=ids, use_cache=False).logits[0, -1:]
        return self._sampler.sample(logits.clone(), [sequence.row])[0]
