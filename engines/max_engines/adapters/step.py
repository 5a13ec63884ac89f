"""What the adapters and the media of a step's sequences do to its rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..added_states import AddedStates
from ..linear import Change
from ..prompt_states import PromptStates
from .lora import LoraAdapter
from .low_rank import LowRank
from .places import Place, embedding_of, layer_of
from .table import Chosen


class AdaptedSequence(Protocol):
    """A sequence, as far as it is not the model's own: it is so from position `own_from` on."""

    @property
    def adapters(self) -> Chosen: ...
    @property
    def states(self) -> PromptStates | None: ...
    @property
    def added(self) -> AddedStates | None: ...
    @property
    def prompt_length(self) -> int: ...
    @property
    def own_from(self) -> int: ...


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
    """Have the model, within the block, give those rows of a step that have adapters or media what is made of them.

    The step's `total` rows begin with those of `chunks`. Products have `least` rows (see `least_rows`). Gives False,
    and changes nothing, if there are none.
    """
    if all(chunk.first >= chunk.sequence.own_from for chunk in chunks):
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
    stated: list[int] = []
    states: list[Tensor] = []
    deeper: dict[int, list[tuple[list[int], Tensor]]] = defaultdict(list)
    raised: list[int] = []
    raising: list[Tensor] = []
    start = 0
    for chunk in chunks:
        chosen, count = chunk.sequence.adapters, chunk.last - chunk.first
        if chosen.lora is not None:
            rows[chosen.lora].extend(range(start, start + count))
        put = chunk.sequence.states
        if put is not None and chunk.first < put.end:
            which = put.within(chunk.first, chunk.last)
            places = [start + position - chunk.first for position in put.positions[which]]
            stated.extend(places)
            states.append(put.states[which])
            for layer, added in enumerate(put.deeper):
                deeper[layer].append((places, added[which]))
        fed, written = chunk.sequence.added, chunk.sequence.prompt_length
        if fed is not None and chunk.last > written:
            begin = max(chunk.first, written)
            where, given = (stated, states) if fed.instead else (raised, raising)
            where.extend(range(start + begin - chunk.first, start + count))
            given.append(fed.of(begin - written, chunk.last - written))
        start += count
    products: dict[Place, list[tuple[LowRank, Rows]]] = defaultdict(list)
    for adapter, own in rows.items():
        own_rows = Rows(_index(own, module), _index(own + own[:1] * (least - len(own)), module))
        for place, product in adapter.products.items():
            products[place].append((product, own_rows))
    changes = {place: _added(several, total) for place, several in products.items()}
    embedded = [_put(_index(stated, module), torch.cat(states))] if stated else []
    if raised:
        embedded.append(_raised(_index(raised, module), torch.cat(raising)))
    if embedded:
        changes[embedding_of(module)] = _in_turn(embedded)
    for layer, several in deeper.items():
        rows_of_layer = _index([row for places, _ in several for row in places], module)
        changes[layer_of(module, layer)] = _raised(rows_of_layer, torch.cat([states for _, states in several]))
    return changes


def _added(products: Sequence[tuple[LowRank, Rows]], total: int) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        values, result = values.view(-1, values.shape[-1]), result.view(-1, result.shape[-1])
        if result.shape[0] != total:
            raise ValueError(f"an adapter is for a layer that reads {result.shape[0]} of a step's {total} rows")
        for product, rows in products:
            result.index_add_(0, rows.written, product(values.index_select(0, rows.read))[: len(rows.written)])

    return change


def _put(rows: Tensor, states: Tensor) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        result.view(-1, result.shape[-1]).index_copy_(0, rows, states)

    return change


def _raised(rows: Tensor, states: Tensor) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        result.view(-1, result.shape[-1]).index_add_(0, rows, states)

    return change


def _in_turn(changes: Sequence[Change]) -> Change:
    def change(values: Tensor, result: Tensor) -> None:
        for one in changes:
            one(values, result)

    return change


def _index(rows: list[int], module: PreTrainedModel) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64, device=module.device)
