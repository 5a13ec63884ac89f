"""Vectors and scores as they come back, with vLLM's fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

OutputT = TypeVar("OutputT")


@dataclass
class EmbeddingOutput:
    """One text's vector; empty for a text that could not be embedded."""

    embedding: list[float]

    @property
    def hidden_size(self) -> int:
        """How many numbers it has."""
        return len(self.embedding)

    @property
    def data(self) -> Tensor:
        """The same as a tensor, float32 `[hidden_size]`: what `encode` of later versions gives."""
        import torch  # takes seconds; nothing else here needs it

        return torch.tensor(self.embedding)


@dataclass
class ScoringOutput:
    """How like two texts are: the cosine of their vectors, from -1 to 1; NaN for a pair that could not be compared."""

    score: float


@dataclass
class PoolingRequestOutput(Generic[OutputT]):
    """What was asked for a text, or a pair of them; in a batch, one that failed has `error`."""

    request_id: str
    outputs: OutputT
    prompt_token_ids: Sequence[int] = field(default_factory=list)
    num_cached_tokens: int = 0
    finished: bool = True
    error: Exception | None = None


class EmbeddingRequestOutput(PoolingRequestOutput[EmbeddingOutput]):
    """A text's vector."""


class ScoringRequestOutput(PoolingRequestOutput[ScoringOutput]):
    """A pair's score; its ids are those of both texts, one behind the other."""
