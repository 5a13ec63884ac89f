"""The embeddings pipeline: one encoder, many texts at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from max_engines.embedding.encoder import Encoder
from max_engines.tokenizer import TextTokenizer
from max_interfaces import (
    Attempt,
    Chunk,
    EmbeddingsGenerationOutput,
    EmbeddingsGenerationRequest,
    Failure,
    FailureKind,
    GenerationStatus,
    RequestID,
)

EmbeddingChunk = Chunk[EmbeddingsGenerationOutput]
SHORTER = "shorten it, or ask for truncate"
MOST_CHARACTERS = 64  # a token: more than any tokenizer makes of a whole text


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """A text that waits for its vector."""

    request: EmbeddingsGenerationRequest
    ids: tuple[int, ...]


class EmbeddingsPipeline:
    """Prompts in, pooled vectors out. See `Pipeline` for who calls what when.

    A step embeds the text that has waited longest, and as many others of like length as `token_budget` allows with
    their padding: so short texts and long ones do not make each other wait for long, and little is padded.
    """

    def __init__(self, encoder: Encoder, tokenizer: TextTokenizer, token_budget: int) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer
        self._token_budget = token_budget
        self._ending = ending(tokenizer)
        self._waiting: dict[RequestID, Text] = {}  # in the order of their arrival

    def admit(self, attempt: Attempt[EmbeddingsGenerationRequest]) -> None:
        """Take a request. ValueError for a text that is too long, more dimensions than there are, an adapter."""
        request = attempt.request
        if request.adapter_id is not None:
            raise ValueError(f"adapter_id = {request.adapter_id!r}: no adapter is loaded")
        if request.dimensions is not None and request.dimensions > self._encoder.width:
            text = f"this model's embeddings have {self._encoder.width}"
            raise ValueError(f"dimensions = {request.dimensions}: {text}")
        self._waiting[request.request_id] = Text(request, self._ids(request))

    def execute(self, active: Collection[RequestID]) -> Sequence[EmbeddingChunk]:
        """One batch. A text whose vector is no numbers fails alone."""
        texts = [self._waiting[request_id] for request_id in active if request_id in self._waiting]
        if not texts:
            return []
        batch = self._batch(texts)
        vectors = self._encoder.embed([text.ids for text in batch])
        chunks = []
        for text, vector in zip(batch, vectors, strict=True):
            del self._waiting[text.request.request_id]
            chunks.append(self._chunk(text, self._encoder.finished(vector, text.request.dimensions)))
        return chunks

    def release(self, request_id: RequestID) -> None:
        """Forget a request."""
        self._waiting.pop(request_id, None)

    def _batch(self, texts: Iterable[Text]) -> list[Text]:
        first, *others = texts
        batch, longest = [first], len(first.ids)
        for text in sorted(others, key=lambda text: abs(len(text.ids) - len(first.ids))):
            longest = max(longest, len(text.ids))
            if longest * (len(batch) + 1) > self._token_budget:
                break
            batch.append(text)
        return batch

    def _chunk(self, text: Text, vector: NDArray[np.float32]) -> EmbeddingChunk:
        request_id = text.request.request_id
        if not np.isfinite(vector).all():
            failure = Failure(FailureKind.WORKER_ERROR, "the embedding of this text holds NaN or infinite numbers")
            failed = EmbeddingsGenerationOutput(final_status=GenerationStatus.FAILED, failure=failure)
            return Chunk(request_id, failed)
        return Chunk(request_id, EmbeddingsGenerationOutput(vector, num_prompt_tokens=len(text.ids)))

    def _ids(self, request: EmbeddingsGenerationRequest) -> tuple[int, ...]:
        most, given = self._encoder.max_tokens, request.input
        if isinstance(given, str):
            if not request.truncate and len(given) > most * MOST_CHARACTERS:
                raise ValueError(f"input: has {len(given)} characters, which cannot fit in {most} tokens; {SHORTER}")
            text = given[: most * MOST_CHARACTERS]
            ids = tuple(self._tokenizer.encode(text, parse_special_tokens=True))
        else:
            ids = given
        if not ids:
            raise ValueError("input: has no tokens; give some text")
        if len(ids) <= most:
            return ids
        if not request.truncate:
            raise ValueError(f"input: has {len(ids)} tokens, at most {most} fit; {SHORTER}")
        kept = self._ending if isinstance(given, str) else 0  # what the tokenizer has put behind the text
        return (*ids[: most - kept], *ids[len(ids) - kept :])


def ending(tokenizer: TextTokenizer) -> int:
    """How many special tokens stand behind every text: what a cut must leave."""
    plain, framed = tokenizer.encode("a", add_special_tokens=False), tokenizer.encode("a")
    where = next((at for at in range(len(framed)) if framed[at : at + len(plain)] == plain), 0)
    return len(framed) - where - len(plain)
