"""A checkpoint's tensors, quantised ones as floats, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import EllipsisType
from typing import Protocol

import torch
from safetensors import safe_open
from torch import Tensor

from .scheme import Scheme

FLOATS = ("F64", "F32", "F16", "BF16")


class Stored(Protocol):
    """A tensor in a file, as safetensors and transformers see it: `stored[...]` reads it."""

    def __getitem__(self, index: EllipsisType) -> Tensor: ...

    def get_dtype(self) -> str:
        """The name of its type in the file."""
        ...


class SafeTensors(Protocol):
    """A file, opened."""

    def keys(self) -> list[str]: ...

    def get_slice(self, name: str) -> Stored: ...


class StoredWeight:
    """A quantised weight, made floats when it is read, so that few are in memory beside the model they end in."""

    def __init__(self, name: str, parts: Mapping[str, Stored], scheme: Scheme) -> None:
        self._name = name
        self._parts = parts
        self._scheme = scheme

    def __getitem__(self, index: EllipsisType) -> Tensor:
        """float32, `[outputs, inputs]`. ValueError, with its name, if its parts do not fit each other."""
        try:
            with torch.inference_mode(False), torch.no_grad():
                floats = self._scheme.floats({ending: part[...] for ending, part in self._parts.items()})
        except (RuntimeError, IndexError, ValueError, ZeroDivisionError) as problem:
            raise ValueError(f"the quantised weight {self._name} cannot be read: {problem}") from problem
        return floats.contiguous()

    def get_dtype(self) -> str:
        """What it is read as."""
        return "F32"


def stored_weights(files: Iterable[str], schemes: Sequence[Scheme]) -> dict[str, Stored]:
    """The tensors of safetensors `files` by the names a model has for them; scales of activations are left out.

    ValueError, with its name, for integers or floats of a byte without their other parts.
    """
    stored: dict[str, Stored] = {}
    for file in files:
        opened: SafeTensors = safe_open(file, framework="pt")  # open for as long as a slice of it is held
        stored.update({name: opened.get_slice(name) for name in opened.keys()})  # noqa: SIM118
    found: dict[str, Stored] = {}
    parts: set[str] = set()
    for scheme in schemes:
        lead = max(scheme.needs, key=len)
        for stem in [name.removesuffix(lead) for name in stored if name.endswith(lead)]:
            if all(stem + ending in stored for ending in scheme.needs):
                endings = [end for end in (*scheme.needs, *scheme.may_have) if stem + end in stored]
                name = stem + scheme.weight
                found[name] = StoredWeight(name, {end: stored[stem + end] for end in endings}, scheme)
                parts.update(stem + end for end in endings)
    rest = {name: tensor for name, tensor in stored.items() if name not in parts}
    for name, tensor in rest.items():
        if name.endswith("weight") and tensor.get_dtype() not in FLOATS:
            raise ValueError(f"its weight {name} is {tensor.get_dtype()}, and its scales or zeros are missing")
    return rest | found
