"""What is asked of vectors, in vLLM's words."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any, Self

from .sampling import RequestOutputKind

LARGEST = 2**20
NOT_HAD = {  # with the reason why they cannot be had
    "additional_data": "no pooling reads it",
    "activation": "it is for models that tell classes",
    "softmax": "it is for models that tell classes",
    "step_tag_id": "it is for models that reward steps",
    "returned_token_ids": "it is for models that reward steps",
}


@dataclass
class PoolingParams:
    """vLLM's parameters of `encode`, `embed` and `score`, with its names.

    `dimensions` gives the first so many numbers, for models that were trained for it (Matryoshka). `normalize`, which
    later versions call `use_activation`, says whether vectors have length 1, None as the model's own do. A text of more
    than `truncate_prompt_tokens` tokens loses its end, -1 for the most that the model reads; without it, one that is
    too long is refused. The others are refused by name unless they are None.
    ValueError, by these names, for what is out of its bounds or cannot be had.
    Source: https://docs.vllm.ai (PoolingParams, 0.6.4 to 0.32).
    """

    additional_data: object | None = None
    dimensions: int | None = None
    normalize: bool | None = None
    use_activation: bool | None = None
    truncate_prompt_tokens: int | None = None
    activation: bool | None = None
    softmax: bool | None = None
    step_tag_id: int | None = None
    returned_token_ids: list[int] | None = None
    task: str | None = None
    output_kind: RequestOutputKind = RequestOutputKind.FINAL_ONLY

    def __post_init__(self) -> None:
        self.translated()

    def clone(self) -> Self:
        """A copy, which can be changed by itself."""
        return copy(self)

    def translated(self) -> dict[str, Any]:
        """The same as fields of `EmbeddingsGenerationRequest`. ValueError for what cannot be had."""
        for name, reason in NOT_HAD.items():
            if (given := getattr(self, name)) is not None:
                raise ValueError(f"PoolingParams.{name} = {given!r}: leave it out; {reason}")
        if self.task not in (None, "embed"):
            raise ValueError(f"PoolingParams.task = {self.task!r}: can be 'embed'")
        if self.output_kind is not RequestOutputKind.FINAL_ONLY:
            raise ValueError(f"PoolingParams.output_kind = {self.output_kind}: can be FINAL_ONLY; a vector is whole")
        if self.dimensions is not None and not 1 <= self.dimensions <= LARGEST:
            raise ValueError(f"PoolingParams.dimensions = {self.dimensions}: must be from 1 to {LARGEST}")
        cut = self.truncate_prompt_tokens
        if cut is not None and cut != -1 and not 1 <= cut <= LARGEST:
            raise ValueError(f"PoolingParams.truncate_prompt_tokens = {cut}: must be -1, or from 1 to {LARGEST}")
        if len({self.normalize, self.use_activation} - {None}) == 2:
            raise ValueError(
                f"PoolingParams.use_activation = {self.use_activation}: is another name of normalize = "
                f"{self.normalize}; give one"
            )
        return {
            "dimensions": self.dimensions,
            "normalize": self.use_activation if self.normalize is None else self.normalize,
            "truncate": cut is not None,
            "max_tokens": None if cut == -1 else cut,
        }
