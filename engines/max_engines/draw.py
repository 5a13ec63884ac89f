"""A draw from what the filters leave of the distribution, for rows that are looked at in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .likeliest import COLUMNS, likeliest
from .random_stream import RandomStreams
from .rules import Candidates, Layout, filters
from .rules.filters import column
from .sampling_row import SamplingRow

FIRST_LOOK = 64  # the nucleus of a sure model is smaller
FEW = 256  # looking for more of the likeliest than this takes as long as looking at all
BLOCK = 2**17  # scores: 512 KiB
FILTERS = filters()


def look(row: SamplingRow) -> int:
    """How many of the likeliest hold, most of the time, everything that the filters will leave; 0 for no limit.

    One more than `top_k`, to see whether another one ties with the last.
    """
    if row.params.top_k > 0:
        return row.params.top_k + 1 if row.params.top_k < FEW else 0
    return FIRST_LOOK if row.params.top_p < 1 or row.params.min_p > 0 else 0


def weigh(scores: Tensor, best: Tensor, temperature: Tensor | None) -> Tensor:
    """What each token weighs, from scores float32[rows, n] and the highest of each row `[rows, 1]`."""
    distance = scores - best
    if temperature is not None:
        distance /= temperature
    return distance.exp_()


class Draw:
    """The draw of some rows of a batch, none of them greedy; their `temperature` `[rows, 1]`, None where all are 1.

    A draw takes one number from the row's random stream and inverts the CDF of the filtered distribution in the
    order of token ids, so that it does not depend on how the filters found what to keep. The CDF is float32: one
    token's probability is off by up to 6e-8.
    """

    def __init__(self, rows: Sequence[SamplingRow], device: torch.device) -> None:
        self._rows = rows
        self._device = device
        self._streams = RandomStreams([row.seed for row in rows])
        temperatures = [row.params.temperature for row in rows]
        self.temperature = None if set(temperatures) == {1.0} else column(temperatures, device)
        self._cuts = []
        for rule in FILTERS:
            concerned = [index for index, row in enumerate(rows) if rule.concerns(row)]
            if concerned:
                where = None if len(concerned) == len(rows) else torch.tensor(concerned, device=device)
                self._cuts.append((where, rule.prepare([rows[index] for index in concerned], device)))

    def cut(self, candidates: Candidates) -> None:
        """Let the filters cut, each in the rows that asked for it."""
        for where, cut in self._cuts:
            if where is None:
                cut(candidates)
            else:
                some = candidates.of(where)
                cut(some)
                candidates.replace(where, some)

    def positions(self, weights: Tensor) -> Tensor:
        """Where the draw falls among weights `[rows, n]`, int64[rows, 1].

        The first position at which the summed weights reach (1 - u) times their total, u in [0, 1): that product is
        above 0 and not above the total, so that a token of weight 0 is never drawn.
        """
        numbers = self._streams.uniform([row.position for row in self._rows])
        share = torch.from_numpy(1 - numbers)[:, None].float().to(self._device)
        cdf = weights.cumsum(1)
        return torch.searchsorted(cdf, cdf[:, -1:] * share).clamp_max_(cdf.shape[1] - 1)  # past it only with NaN


class DrawFromAll:
    """Looks at every token.

    On a CPU a few rows at a time: what they compute stays in the cache, and no memory has to be taken from the system
    in each step, which costs more than the work itself.
    """

    def __init__(self, rows: Sequence[SamplingRow], layout: Layout) -> None:
        self._parts = [(part, Draw(rows[part], layout.device)) for part in blocks(len(rows), layout)]

    def tokens(self, scores: Tensor, best: Tensor) -> Tensor:
        """Token ids int64[rows]; `scores` float32[rows, columns] and the highest of each row `[rows, 1]`.

        Nonsense, but an id, for a row with NaN or without a possible token.
        """
        return torch.cat([_from_all(draw, scores[part], best[part]) for part, draw in self._parts])


class DrawFromFew:
    """Looks at so many of the likeliest tokens, and at all only in rows where that was not enough."""

    def __init__(self, rows: Sequence[SamplingRow], layout: Layout, count: int) -> None:
        self._rows = rows
        self._layout = layout
        self._count = -(-count // COLUMNS) * COLUMNS
        self._draw = Draw(rows, layout.device)
        # What is not among the likeliest weighs too, unless `top_k` cuts it first.
        self._all_weigh = any(row.params.top_k < 1 for row in rows)

    def tokens(self, scores: Tensor, best: Tensor) -> Tensor:
        """As `DrawFromAll.tokens`."""
        highest, found = likeliest(scores, self._count)
        ids, order = found.sort(1)
        weights = weigh(highest, best, self._draw.temperature)
        candidates = Candidates(weights.gather(1, order), self._total(scores, best), weights[:, -1:])
        self._draw.cut(candidates)
        tokens = ids.gather(1, self._draw.positions(candidates.weights))[:, 0]
        short = (~candidates.complete[:, 0]).nonzero()[:, 0].tolist()
        if short:
            again = DrawFromAll([self._rows[index] for index in short], self._layout)
            tokens[short] = again.tokens(scores[short], best[short])
        return tokens

    def _total(self, scores: Tensor, best: Tensor) -> Tensor | None:
        if not self._all_weigh:
            return None
        temperature = self._draw.temperature
        totals = []
        for part in blocks(len(self._rows), self._layout):
            own = None if temperature is None else temperature[part]
            totals.append(weigh(scores[part], best[part], own).sum(1, keepdim=True))
        return torch.cat(totals)


def _from_all(draw: Draw, scores: Tensor, best: Tensor) -> Tensor:
    """The tokens of one block of rows."""
    weights = weigh(scores, best, draw.temperature)
    candidates = Candidates(weights, weights.sum(1, keepdim=True))
    draw.cut(candidates)
    return draw.positions(candidates.weights)[:, 0]


def blocks(count: int, layout: Layout) -> list[slice]:
    """The rows of a batch in blocks that fit in the cache of a CPU core; all in one on another device."""
    size = max(1, BLOCK // layout.columns) if layout.device.type == "cpu" else count
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
