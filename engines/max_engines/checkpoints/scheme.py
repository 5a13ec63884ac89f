"""One way in which checkpoints store a quantised weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Parts: TypeAlias = Mapping[str, Tensor]  # each under what its name ends in


@dataclass(frozen=True, slots=True)
class Scheme:
    """A weight is several tensors whose names differ in their endings.

    Where there are tensors with all endings of `needs`, there is a weight, whose own name ends in `weight`; there may
    be those of `may_have`, too. `floats` is the weight, float32 `[outputs, inputs]`.
    """

    needs: tuple[str, ...]
    may_have: tuple[str, ...]
    weight: str
    floats: Callable[[Parts], Tensor]
