"""Rules that make some tokens likelier or less likely, whatever was said before."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from ..sampling_row import SamplingRow
from .rule import Apply, Layout, Rows, entries

GREEN_LISTS_KEPT = 64  # one for a previous token; a vocabulary of 128k makes 32 MB of them


class LogitBias:
    """Add `logit_bias` to the scores it names. Source: OpenAI's API, `logit_bias`."""

    def concerns(self, row: SamplingRow) -> bool:
        return bool(row.params.logit_bias)

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        named = entries({index: row.params.logit_bias for index, row in rows.items()}, layout.device)
        values = [bias for row in rows.values() for bias in row.params.logit_bias.values()]
        biases = torch.tensor(values, dtype=torch.float32, device=layout.device)

        def apply(scores: Tensor) -> None:
            scores[named] += biases

        return apply


class Watermark:
    """Add `delta` to a share `gamma` of the vocabulary, the green list, that the token before and `key` choose.

    Whoever has the key can tell the text from another by its many green tokens. Source: Kirchenbauer et al. 2023
    (https://arxiv.org/abs/2301.10226), algorithm 2; the lists are those of transformers' WatermarkLogitsProcessor
    ("lefthash", context width 1) on a CPU, so that its WatermarkDetector finds them. Defaults are TGI's. ValueError
    names the parameter and its bound.
    """

    def __init__(self, gamma: float = 0.5, delta: float = 2.0, key: int = 15485863) -> None:
        if not 0 < gamma < 1:
            raise ValueError(f"watermark gamma = {gamma}: must be above 0 and below 1")
        if not 0 < delta <= 100:
            raise ValueError(f"watermark delta = {delta}: must be above 0 and at most 100")
        if not 1 <= key < 2**63:
            raise ValueError(f"watermark key = {key}: must be from 1 to 2^63 - 1")
        self.gamma, self.delta, self.key = gamma, delta, key
        self._generator = torch.Generator()
        self._lists: OrderedDict[tuple[int, Layout], Tensor] = OrderedDict()

    def concerns(self, row: SamplingRow) -> bool:
        return row.params.watermark

    def prepare(self, rows: Rows, layout: Layout) -> Apply:
        def apply(scores: Tensor) -> None:
            for index, row in rows.items():
                scores[index] += self._green(row.output[-1] if row.output else row.prompt[-1], layout)

        return apply

    def _green(self, token: int, layout: Layout) -> Tensor:
        """What to add after `token`: `delta` for the green, 0 for the others, float32[columns]."""
        known = self._lists.get((token, layout))
        if known is not None:
            self._lists.move_to_end((token, layout))
            return known
        self._generator.manual_seed(self.key * token % (2**64 - 1))
        order = torch.randperm(layout.vocab_size, generator=self._generator).numpy()
        bias = np.zeros(layout.columns, np.float32)
        bias[order[: int(layout.vocab_size * self.gamma)]] = self.delta
        green = self._lists[token, layout] = torch.from_numpy(bias).to(layout.device)
        if len(self._lists) > GREEN_LISTS_KEPT:
            self._lists.popitem(last=False)
        return green
