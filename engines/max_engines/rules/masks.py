"""Rules about which tokens may come at all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..sampling_row import SamplingRow
from .rule import SequenceError

MASKS_KEPT = 64  # device copies: a constraint has few states, and a vocabulary of 128k makes 32 MB of them


class ConstraintMask:
    """Only what the row's `TokenConstraint` allows after its output."""

    def __init__(self) -> None:
        # The numpy array is kept beside its copy: while it lives, its id belongs to no other array.
        self._copies: OrderedDict[int, tuple[NDArray[np.bool_], Tensor]] = OrderedDict()

    def concerns(self, row: SamplingRow) -> bool:
        return row.constraint is not None

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        for index, row in enumerate(rows):
            allowed = None if row.constraint is None else row.constraint.allowed(row.output)
            if allowed is not None:
                values[index] += self._mask(allowed, values, row)  # many times faster than masked_fill_
        return values

    def _mask(self, allowed: NDArray[np.bool_], scores: Tensor, row: SamplingRow) -> Tensor:
        """The device copy of a mask: 0 where allowed, else -inf, and as wide as the scores."""
        known = self._copies.get(id(allowed))
        if known is not None and known[1].shape[0] == scores.shape[1]:
            self._copies.move_to_end(id(allowed))
            return known[1]
        if allowed.dtype != np.bool_ or allowed.ndim != 1 or allowed.shape[0] > scores.shape[1]:
            raise SequenceError(row.name, f"its constraint gave a mask {allowed.dtype}{list(allowed.shape)}")
        mask = np.full(scores.shape[1], -np.inf, np.float32)
        mask[: allowed.shape[0]][allowed] = 0
        copy = torch.from_numpy(mask).to(scores.device)
        self._copies[id(allowed)] = (allowed, copy)
        if len(self._copies) > MASKS_KEPT:
            self._copies.popitem(last=False)
        return copy


class AllowedTokens:
    """Only `allowed_token_ids`. Source: vLLM's parameter of the same name."""

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.allowed_token_ids is not None

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        kept = torch.full_like(values, -torch.inf)
        for index, row in enumerate(rows):
            ids = torch.tensor(row.params.allowed_token_ids, device=values.device)
            kept[index, ids] = values[index, ids]
        return kept


class LogitBias:
    """Add `logit_bias` to the scores it names. Source: OpenAI's API, `logit_bias`."""

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.params.logit_bias)

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        for index, row in enumerate(rows):
            ids = torch.tensor(list(row.params.logit_bias), device=values.device)
            values[index, ids] += torch.tensor(list(row.params.logit_bias.values()), device=values.device)
        return values


class MinNewTokens:
    """No id that would end the output before it has `min_new_tokens`.

    Source: transformers' MinNewTokensLengthLogitsProcessor; as in vLLM, `stop_token_ids` count as ends too.
    """

    def concerns(self, row: SamplingRow) -> bool:
        return len(row.output) < row.params.min_new_tokens and bool(row.end_ids)

    def apply(self, values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        for index, row in enumerate(rows):
            values[index, torch.tensor(sorted(row.end_ids), device=values.device)] = -torch.inf
        return values
