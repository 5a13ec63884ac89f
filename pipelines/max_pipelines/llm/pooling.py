"""Runs what is asked of a model that makes vectors, on one client."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from max_interfaces import (
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    GenerationStatus,
    RequestFailed,
    RequestID,
    RequestOptions,
)

from ..client import AsyncClient
from ..client.embedding import WINDOW
from ..many import Bar
from .pooling_outputs import EmbeddingOutput, EmbeddingRequestOutput, ScoringOutput, ScoringRequestOutput
from .pooling_params import PoolingParams
from .prompts import Prompt
from .settled import settled
from .waiting import Waiting

SMALLEST = 1e-8  # a product of lengths; vectors of less have the score 0, as in torch


class Pooling:
    """`client` serves `model`; requests are numbered, which are their ids."""

    def __init__(self, client: AsyncClient, model: str) -> None:
        self._client = client
        self._model = model
        self._numbers = itertools.count()
        self._waiting = Waiting()

    async def embeddings(
        self,
        prompts: Sequence[Prompt],
        params: Sequence[PoolingParams],
        options: RequestOptions,
        single: bool,
        bar: Bar,
    ) -> list[EmbeddingRequestOutput]:
        """The vectors of all, in their order. A `single` one that fails raises; of several it has the `error`."""
        numbers = list(itertools.islice(self._numbers, len(prompts)))
        jobs = [
            partial(self._one, prompt, one, options, str(number))
            for prompt, one, number in zip(prompts, params, numbers, strict=True)
        ]
        with self._waiting.these(map(str, numbers)):
            results = await settled(jobs, single, bar, _counted, WINDOW)
        return [
            _failed(str(number), prompt, result) if isinstance(result, Exception) else result
            for number, prompt, result in zip(numbers, prompts, results, strict=True)
        ]

    async def scores(
        self,
        first: Sequence[Prompt],
        second: Sequence[Prompt],
        params: PoolingParams,
        options: RequestOptions,
        bar: Bar,
    ) -> list[ScoringRequestOutput]:
        """How like each of `second` is to its counterpart of `first`, or, if that is one, to that.

        A pair fails if either of its texts does; if there is no other pair, it raises. ValueError for other numbers.
        """
        if not first or len(first) not in (1, len(second)):
            raise ValueError(
                f"score: {len(first)} texts against {len(second)}; give one against any number, or as many as there are"
            )
        texts = [*first, *second]
        made = await self.embeddings(texts, [params] * len(texts), options, len(second) == 1, bar)
        left, right = made[: len(first)], made[len(first) :]
        return [_scored(one, other) for one, other in zip(_repeated(left, len(right)), right, strict=True)]

    def cancel(self, request_id: str) -> None:
        """End a request, also one that has still to be sent."""
        if not self._waiting.cancel(request_id):
            self._client.cancel(RequestID(request_id))

    async def _one(
        self, prompt: Prompt, params: PoolingParams, options: RequestOptions, number: str
    ) -> EmbeddingRequestOutput:
        request = EmbeddingsGenerationRequest(
            RequestID(number), self._model, prompt.read, return_prompt=True, **params.translated()
        )
        sent = await self._waiting.over(number)
        output = await self._client.generate(request, options) if sent else None
        if output is None or output.final_status is GenerationStatus.CANCELLED:
            raise RequestFailed(Failure(FailureKind.CANCELLED, "it was cancelled before it was embedded"))
        return EmbeddingRequestOutput(number, EmbeddingOutput(output.embeddings.tolist()), list(output.prompt_tokens))


def _repeated(outputs: Sequence[EmbeddingRequestOutput], count: int) -> Iterator[EmbeddingRequestOutput]:
    return itertools.repeat(outputs[0], count) if len(outputs) == 1 else iter(outputs)


def _scored(one: EmbeddingRequestOutput, other: EmbeddingRequestOutput) -> ScoringRequestOutput:
    return ScoringRequestOutput(
        f"{one.request_id}_{other.request_id}",
        ScoringOutput(_cosine(one.outputs.embedding, other.outputs.embedding)),
        [*one.prompt_token_ids, *other.prompt_token_ids],
        error=one.error or other.error,
    )


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """NaN if one is empty: there was nothing to compare."""
    if not one or not other:
        return float("nan")
    lengths = np.linalg.norm(one) * np.linalg.norm(other)
    return float(np.dot(one, other) / max(lengths, SMALLEST))


def _failed(number: str, prompt: Prompt, problem: Exception) -> EmbeddingRequestOutput:
    return EmbeddingRequestOutput(number, EmbeddingOutput([]), list(prompt.ids or ()), error=problem)


def _counted(output: EmbeddingRequestOutput) -> tuple[int, int]:
    """The tokens that were read and written for it."""
    return len(output.prompt_token_ids), 0
