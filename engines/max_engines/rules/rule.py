"""What a rule of sampling is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..sampling_row import SamplingRow


class SequenceError(RuntimeError):
    """One sequence cannot go on; `name` is the text of its request id. The step it was in has changed nothing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"sequence {name}: {reason}")
        self.name = name


class Rule(Protocol):
    """Changes the values of the rows that asked for it, each by itself: a row never sees its neighbours."""

    def concerns(self, row: SamplingRow) -> bool:
        """True if the row asked for this rule."""
        ...

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        """New scores or weights float32[rows, columns] for rows that are all concerned; `values` may be overwritten.

        A column is a token id; there may be a few columns more than ids, which are forbidden from the start.
        """
        ...


def column(values: Sequence[float], like: Tensor) -> Tensor:
    """One number per row, as float32[rows, 1] on the device of `like`."""
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
