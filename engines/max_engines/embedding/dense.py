"""The linear layers that some checkpoints put behind the pooling, such as EmbeddingGemma and LaBSE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers.utils.hub import cached_file

from ..loading import LOAD_ERRORS, first_line
from .recipe import read_json

WEIGHTS = "model.safetensors"
TEXT = "sentence_embedding"
Activation = Callable[[Tensor], Tensor]
ACTIVATIONS: Mapping[str, Activation] = {  # by their names in torch.nn, which are looked up here and never imported
    "Identity": lambda vectors: vectors,
    "Tanh": torch.tanh,
    "ReLU": functional.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
    "Sigmoid": torch.sigmoid,
}


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """`weight` float32 `[out, in]`, maybe a `bias` `[out]`, then the activation."""

    weight: Tensor
    bias: Tensor | None
    activation: Activation

    @property
    def out_features(self) -> int:
        """How many numbers a vector has afterwards."""
        return self.weight.shape[0]

    def __call__(self, vectors: Tensor) -> Tensor:
        """float32 `[texts, out]` of `[texts, in]`."""
        return self.activation(functional.linear(vectors, self.weight, self.bias))


def load_dense(source: str, folder: str, width: int, device: torch.device, revision: str | None = None) -> Dense:
    """The layer in a folder of a checkpoint, written by sentence-transformers' Dense, for vectors of `width` numbers.

    ValueError for weights that are no safetensors, do not fit or are no finite numbers, and for what we do not have.
    """
    given = read_json(source, f"{folder}/config.json", revision) or {}
    name = str(given.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if activation is None:
        known = ", ".join(ACTIVATIONS)
        raise ValueError(f"{source!r}: {folder} has the activation function {name!r}; known are {known}")
    if given.get("use_residual") or given.get("module_input_name", TEXT) != TEXT:
        raise ValueError(
            f"{source!r}: {folder} has a residual, or maps tokens; a layer of texts' vectors alone is known"
        )
    try:
        path = cached_file(
            source, f"{folder}/{WEIGHTS}", revision=revision, _raise_exceptions_for_missing_entries=False
        )
        weights = {} if path is None else load_file(Path(path), device=str(device))
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot read {folder}/{WEIGHTS} of {source!r}: {first_line(problem)}") from problem
    weight, bias = weights.get("linear.weight"), weights.get("linear.bias")
    if weight is None:
        raise ValueError(f"{source!r}: {folder} has no {WEIGHTS} with a linear.weight, and nothing else is read")
    if weight.shape[1] != width:
        raise ValueError(f"{source!r}: {folder} maps vectors of {weight.shape[1]} numbers, and they have {width}")
    if not all(bool(one.isfinite().all()) for one in weights.values()):
        raise ValueError(f"{source!r}: {folder} holds NaN or infinite numbers")
    return Dense(weight.float(), None if bias is None else bias.float(), activation)
