"""What the adapters of a step's sequences do to its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..linear import Change
from .lora import LoraAdapter
from .low_rank import LowRank
from .places import Place, embedding_of
from .table import BARE, Chosen


class AdaptedSequence(Protocol):
    """A sequence, as far as adapters are concerned."""

    @property
    def adapters(self) -> Chosen: ...


class Chunk(Protocol):
    """The tokens of a sequence from position `first` to `last` (excluded)."""

    @property
    def sequence(self) -> AdaptedSequence: ...
    @property
    def first(self) -> int: ...
    @property
    def last(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a step that have one adapter: int64[count], and the same filled up with copies to be read."""

    written: Tensor
    read: Tensor


@contextmanager
def adapted_step(module: PreTrainedModel, chunks: Sequence[Chunk], total: int, least: int) -> Iterator[bool]:
    """Have the model, within the block, give those rows of a step that have adapters what these make of them.

    The step's `total` rows begin with those of `chunks`. Products have `least` rows (see `least_rows`). Gives False,
    and changes nothing, if nobody has an adapter.
    """
    if all(chunk.sequence.adapters is BARE for chunk in chunks):
        yield False
        return
    changes = _changes(module, chunks, total, least)
    try:
        for place, change in changes.items():
            place.attach(change)
        yield True
    finally:
        for place in changes:
            place.detach()


def _changes(module: PreTrainedModel, chunks: Sequence[Chunk], total: int, least: int) -> dict[Place, Change]:
    """What is to be done where."""
    rows: dict[LoraAdapter, list[int]] = defaultdict(list)
    looked_up: list[int] = []
    states: list[Tensor] = []
    start = 0
    for chunk in chunks:
        chosen, count = chunk.sequence.adapters, chunk.last - chunk.first
        if chosen.lora is not None:
            rows[chosen.lora].extend(range(start, start + count))
        if chosen.prompt is not None and chunk.first < chosen.length:
            states.append(chosen.prompt.states[chunk.first : chunk.last])
            looked_up.extend(range(start, start + states[-1].shape[0]))
        start += count
    products: dict[Place, list[tuple[LowRank, Rows]]] = defaultdict(list)
    for adapter, own in rows.items():
        which = Rows(_index(own, module), _index(own + own[:1] * (least - len(own)), module))
        for place, product in adapter.products.items():
            products[place].append((product, which))
    changes = {place: _added(several, total) for place, several in products.items()}
    if states:
        changes[embedding_of(module)] = _looked_up(_index(looked_up, module), torch.cat(states))
    return changes


def _added(products: Sequence[tuple[LowRank, Rows]], total: int) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        values, result = values.view(-1, values.shape[-1]), result.view(-1, result.shape[-1])
        if result.shape[0] != total:
            raise ValueError(f"an adapter is for a layer that reads {result.shape[0]} of a step's {total} rows")
        for product, rows in products:
            result.index_add_(0, rows.written, product(values.index_select(0, rows.read))[: len(rows.written)])

    return change


def _looked_up(rows: Tensor, states: Tensor) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        result.view(-1, result.shape[-1]).index_copy_(0, rows, states)

    return change


def _index(rows: list[int], module: PreTrainedModel) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=module.device)
