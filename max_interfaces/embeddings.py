"""Requests for embeddings, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .arrays import FLOAT32, ArrayOf, freeze
from .bounds import Bounded, Count, LongText, Name, TokenIds
from .equality import same_fields
from .identity import RequestID
from .status import Failure, GenerationStatus

Embeddings = Annotated[NDArray[np.float32], ArrayOf(kinds="f", ndim=1, max_size=2**20, dtype=FLOAT32)]


NO_EMBEDDING: NDArray[np.float32] = freeze(np.zeros(0, np.float32), FLOAT32)


@dataclass(frozen=True, slots=True)
class EmbeddingsGenerationRequest(Bounded):
    """An immutable request for the embedding of one text, given as a string or as token ids.

    With `dimensions` only the first so many numbers are given, normalised anew if the model's are: for models that
    were trained for it (Matryoshka). A text that is too long is refused, or, to `truncate`, its end is left out;
    `max_tokens` is the most that it may have, if that is less than the model's. `normalize` says whether the vector has
    length 1, None as the model's own do. With `return_prompt` the output holds the ids that were read.
    """

    request_id: RequestID
    model_name: Name
    input: TokenIds | LongText
    adapter_id: Name | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    truncate: bool = False
    max_tokens: Annotated[int, Meta(ge=1, le=2**24)] | None = None
    normalize: bool | None = None
    return_prompt: bool = False

    def check_rules(self) -> None:
        """Something to embed."""
        if not self.input:
            raise ValueError(f"{type(self).__name__}.input = {self.input!r}: must not be empty")

    def __hash__(self) -> int:
        return hash(self.request_id)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingsGenerationOutput(Bounded):
    """The embedding, float32[dimension], of `num_prompt_tokens`, which are `prompt_tokens` where they were asked for.

    Always the last output of its request.
    """

    embeddings: Embeddings = field(default_factory=lambda: NO_EMBEDDING)
    final_status: GenerationStatus = GenerationStatus.END_OF_SEQUENCE
    failure: Failure | None = None
    num_prompt_tokens: Count = 0
    prompt_tokens: TokenIds = ()

    @property
    def is_done(self) -> bool:
        """True: an embedding comes in one piece."""
        return True

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash((self.final_status, self.embeddings.size))
