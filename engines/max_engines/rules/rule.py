"""What a rule on scores is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from ..sampling_row import SamplingRow

Rows: TypeAlias = Mapping[int, SamplingRow]  # rows of a batch by their index in it
Apply: TypeAlias = Callable[[Tensor], None]


class SequenceError(RuntimeError):
    """One sequence cannot go on; `name` is the text of its request id. The step it was in has changed nothing."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"sequence {name}: {reason}")
        self.name = name


@dataclass(frozen=True, slots=True)
class Layout:
    """How scores lie in memory: a column is a token id; those past `vocab_size` are forbidden from the start."""

    vocab_size: int
    columns: int
    device: torch.device


class Rule(Protocol):
    """Changes the scores of the rows that asked for it, each by itself: a row never sees its neighbours."""

    def concerns(self, row: SamplingRow) -> bool:
        """True if the row asked for this rule; the answer is the same for as long as it lives."""
        ...

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        """What to do in each step of a batch that has these rows, all of them concerned.

        Whatever does not change from step to step is computed here. The function changes scores float32[batch,
        columns] in place, in the batch's rows `rows` only, and looks at the outputs as they are then.
        """
        ...


def entries(chosen: Mapping[int, Iterable[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Index of single scores, from the token ids chosen in each row: two int64[n]."""
    pairs = [(index, token) for index, ids in chosen.items() for token in ids]
    both = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T.to(device)
    return both[0], both[1]
