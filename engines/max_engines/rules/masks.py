"""Rules about which tokens may come at all."""

from __future__ import annotations

from collections import OrderedDict, defaultdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..constraints.errors import ConstraintError
from ..sampling_row import SamplingRow
from .rule import Apply, Layout, Rows, SequenceError, entries

MASKS_KEPT = 64  # device copies: a constraint has few states, and a vocabulary of 128k makes 32 MB of them


class ConstraintMask:
    """Only what the row's `TokenConstraint` allows after its output."""

    def __init__(self) -> None:
        # The numpy array is kept beside its copy: while it lives, its id belongs to no other array.
        self._copies: OrderedDict[int, tuple[NDArray[np.bool_], Tensor]] = OrderedDict()

    def concerns(self, row: SamplingRow) -> bool:
        return row.constraint is not None

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        def apply(scores: Tensor) -> None:
            for index, row in rows.items():
                allowed = _allowed(row)
                if allowed is not None:
                    scores[index] += self._mask(allowed, layout, row)  # many times faster than masked_fill_

        return apply

    def _mask(self, allowed: NDArray[np.bool_], layout: Layout, row: SamplingRow) -> Tensor:
        """The device copy of a mask: 0 where allowed, else -inf, and as wide as the scores."""
        known = self._copies.get(id(allowed))
        if known is not None and known[1].shape[0] == layout.columns:
            self._copies.move_to_end(id(allowed))
            return known[1]
        if allowed.dtype != np.bool_ or allowed.ndim != 1 or allowed.shape[0] > layout.columns:
            raise SequenceError(row.name, f"its constraint gave a mask {allowed.dtype}{list(allowed.shape)}")
        mask = np.full(layout.columns, -np.inf, np.float32)
        mask[: allowed.shape[0]][allowed] = 0
        copy = torch.from_numpy(mask).to(layout.device)
        self._copies[id(allowed)] = (allowed, copy)
        if len(self._copies) > MASKS_KEPT:
            self._copies.popitem(last=False)
        return copy


class AllowedTokens:
    """Only `allowed_token_ids`. Source: vLLM's parameter of the same name."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.allowed_token_ids is not None

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        allowed = entries({index: row.params.allowed_token_ids or () for index, row in rows.items()}, layout.device)
        whole = torch.tensor(list(rows), device=layout.device)

        def apply(scores: Tensor) -> None:
            kept = scores[allowed]
            scores[whole] = -torch.inf
            scores[allowed] = kept

        return apply


class BadWords:
    """No id that would complete one of `bad_words`, runs of ids; a run may begin in the prompt.

    Source: transformers' NoBadWordsLogitsProcessor.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.bad_words)

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        single = entries(
            {i: [run[0] for run in row.bad_words if len(run) == 1] for i, row in rows.items()}, layout.device
        )
        longer = {index: _by_last_but_one(row) for index, row in rows.items()}

        def apply(scores: Tensor) -> None:
            scores[single] = -torch.inf
            completed = {index: _completing(row, longer[index]) for index, row in rows.items()}
            if any(completed.values()):
                scores[entries(completed, layout.device)] = -torch.inf

        return apply


class MinNewTokens:
    """No id that would end the output before it has `min_new_tokens`.

    Source: transformers' MinNewTokensLengthLogitsProcessor; as in vLLM, `stop_token_ids` count as ends too.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.min_new_tokens > 0 and bool(row.end_ids)

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        waiting = dict(rows)
        ends = entries({index: row.end_ids for index, row in waiting.items()}, layout.device)

        def apply(scores: Tensor) -> None:
            nonlocal waiting, ends
            now = {i: row for i, row in rows.items() if row.position < row.params.min_new_tokens}
            if now.keys() != waiting.keys():
                waiting, ends = now, entries({index: row.end_ids for index, row in now.items()}, layout.device)
            scores[ends] = -torch.inf

        return apply


def _by_last_but_one(row: SamplingRow) -> dict[int, list[tuple[int, ...]]]:
    """The runs of two ids and more, by the id that comes before the forbidden one."""
    runs: defaultdict[int, list[tuple[int, ...]]] = defaultdict(list)
    for run in row.bad_words:
        if len(run) > 1:
            runs[run[-2]].append(run)
    return dict(runs)


def _completing(row: SamplingRow, runs: dict[int, list[tuple[int, ...]]]) -> list[int]:
    """The ids that would complete one of the row's runs now."""
    last = row.output[-1] if row.output else row.prompt[-1]
    length = row.length
    return [run[-1] for run in runs.get(last, ()) if tuple(row.tokens(length - len(run) + 1, length)) == run[:-1]]


def _allowed(row: SamplingRow) -> NDArray[np.bool_] | None:
    """What the row's constraint allows. SequenceError if it cannot say."""
    try:
        return None if row.constraint is None else row.constraint.allowed(row.output)
    except ConstraintError as problem:
        raise SequenceError(row.name, str(problem)) from problem
