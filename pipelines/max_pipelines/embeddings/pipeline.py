"""The embeddings pipeline: one encoder, many texts at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from max_engines.device_errors import device_lost
from max_engines.embedding.encoder import Encoder
from max_engines.tokenizer import TextTokenizer
from max_interfaces import (
    Attempt,
    Chunk,
    DeviceLost,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    GenerationStatus,
    RequestID,
)

from .batching import Batching

EmbeddingChunk = Chunk[EmbeddingsGenerationOutput]
SHORTER = "shorten it, or ask for truncate"
MOST_CHARACTERS = 64  # a token: more than any tokenizer makes of a whole text


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text that waits for its vector."""

    request: EmbeddingsGenerationRequest
    ids: tuple[int, ...]
    priority: int


class EmbeddingsPipeline:
    """Prompts in, pooled vectors out. See `Pipeline` for who calls what when.

    A step embeds one text of the highest priority, in turn the one that has waited longest and the shortest, and as
    many others of like length as the budget allows with their padding. So a queue of long texts does not keep a short
    one waiting, nor the other way round, and little is padded.
    """

    def __init__(self, encoder: Encoder, tokenizer: TextTokenizer, batching: Batching) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._batching = batching
        self._waiting: dict[RequestID, Text] = {}  # in the order of their arrival
        self._shortest_next = False

    def admit(self, attempt: Attempt[EmbeddingsGenerationRequest]) -> None:
        """Take a request. ValueError for a text that is too long, more dimensions than there are, an adapter."""
        request = attempt.request
        if request.adapter_id is not None:
            raise ValueError(f"adapter_id = {request.adapter_id!r}: no adapter is loaded")
        if request.dimensions is not None and request.dimensions > self._encoder.width:
            text = f"this model's embeddings have {self._encoder.width}"
            raise ValueError(f"dimensions = {request.dimensions}: {text}")
        self._waiting[request.request_id] = Text(request, self._ids(request), attempt.options.priority)

    def execute(self, active: Collection[RequestID]) -> Sequence[EmbeddingChunk]:
        """One batch. A text whose vector is no numbers fails alone. DeviceLost if no batch will ever succeed."""
        texts = [self._waiting[request_id] for request_id in active if request_id in self._waiting]
        if not texts:
            return []
        batch = self._batch(texts)
        try:
            vectors = self._encoder.embed([text.ids for text in batch])
            chunks = [self._chunk(text, vector) for text, vector in zip(batch, vectors, strict=True)]
        except Exception as problem:
            if device_lost(problem, self._encoder.module.device):
                raise DeviceLost(f"{type(problem).__name__}: {problem}") from problem
            raise
        for text in batch:  # now that nothing more can fail: a step that did is repeated
            del self._waiting[text.request.request_id]
        self._shortest_next = not self._shortest_next
        return chunks

    def step_s(self) -> float:
        """How long the next step may take, in seconds: a single text may be far beyond the budget."""
        return self._batching.seconds(max((len(text.ids) for text in self._waiting.values()), default=0))

    def release(self, request_id: RequestID) -> None:
        """Forget a request."""
        self._waiting.pop(request_id, None)

    def _batch(self, texts: Sequence[Text]) -> list[Text]:
        first = self._first(texts)
        batch: list[Text] = []
        longest = 0
        for text in sorted(texts, key=lambda text: (text is not first, abs(len(text.ids) - len(first.ids)))):
            longest = max(longest, len(text.ids))
            if batch and longest * (len(batch) + 1) > self._batching.token_budget:
                break
            batch.append(text)
        return batch

    def _first(self, texts: Sequence[Text]) -> Text:
        urgent = max(text.priority for text in texts)
        pressing = [text for text in texts if text.priority == urgent]
        return min(pressing, key=lambda text: len(text.ids)) if self._shortest_next else pressing[0]

    def _chunk(self, text: Text, pooled: Tensor) -> EmbeddingChunk:
        asked, request_id = text.request, text.request.request_id
        vector = self._encoder.finished(pooled, asked.dimensions, normalized=asked.normalize)
        if not np.isfinite(vector).all():
            failure = Failure(FailureKind.WORKER_ERROR, "the embedding of this text holds NaN or infinite numbers")
            failed = EmbeddingsGenerationOutput(final_status=GenerationStatus.FAILED, failure=failure)
            return Chunk(request_id, failed)
        told = text.ids if asked.return_prompt else ()
        output = EmbeddingsGenerationOutput(vector, num_prompt_tokens=len(text.ids), prompt_tokens=told)
        return Chunk(request_id, output)

    def _most(self, request: EmbeddingsGenerationRequest) -> int:
        most = self._encoder.max_tokens
        return most if request.max_tokens is None else min(most, request.max_tokens)

    @cached_property
    def _ending(self) -> int:
        return ending(self._tokenizer)

    def _ids(self, request: EmbeddingsGenerationRequest) -> tuple[int, ...]:
        most, given = self._most(request), request.input
        if isinstance(given, str):
            if not request.truncate and len(given) > most * MOST_CHARACTERS:
                raise ValueError(f"input: has {len(given)} characters, which cannot fit in {most} tokens; {SHORTER}")
            text = given[: most * MOST_CHARACTERS]
            text = text.lower() if self._encoder.recipe.lowercased else text
            ids = tuple(self._tokenizer.encode(text, parse_special_tokens=True))
        else:
            ids = given
        if not ids:
            raise ValueError("input: has no tokens; give some text")
        if (largest := max(ids)) >= self._encoder.vocab_size:  # a GPU would be lost for it
            raise ValueError(f"input: has the token id {largest}, this model's end at {self._encoder.vocab_size - 1}")
        if len(ids) <= most:
            return ids
        if not request.truncate:
            raise ValueError(f"input: has {len(ids)} tokens, at most {most} fit; {SHORTER}")
        kept = min(most, self._ending if isinstance(given, str) else 0)  # what the tokenizer has put behind the text
        return (*ids[: most - kept], *ids[len(ids) - kept :])


def ending(tokenizer: TextTokenizer) -> int:
    """How many special tokens stand behind every text: what a cut must leave."""
    plain, framed = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    where = next((at for at in range(len(framed)) if framed[at : at + len(plain)] == plain), 0)
    return len(framed) - where - len(plain)
