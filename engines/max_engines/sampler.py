"""Scores to tokens: the rules in their order, then the likeliest token or a draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .random_stream import uniform
from .rules import Rule, SequenceError, filters, score_rules
from .rules.rule import column
from .sampling_row import SamplingRow

COLUMNS = 32  # torch's vector loops take so many floats; a rest would be computed by other code, in the last row only


class Sampler:
    """Chooses the next token of many rows at once; a row's token does not depend on the others.

    A draw takes one number from the row's random stream and inverts the CDF of the filtered distribution in the
    order of token ids, so that it does not depend on how the filters found what to keep. The CDF is float32: one
    token's probability is off by up to 6e-8.
    """

    def __init__(self) -> None:
        self._score_rules = score_rules()
        self._filters = filters()

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SamplingRow]) -> list[int]:
        """One token id for each of `rows`, whose logits are `logits` `[rows, vocabulary]` (overwritten).

        Changes no row. Raises SequenceError for a row in which no token is possible.
        """
        scores = self.scores(logits, rows)
        best, chosen = scores.max(1, keepdim=True)
        random = [index for index, row in enumerate(rows) if not row.params.greedy]
        if len(random) == len(rows):
            chosen = _draw(self.weights(scores, best, rows), rows)
        elif random:
            drawn = [rows[index] for index in random]
            chosen[random] = _draw(self.weights(scores[random], best[random], drawn), drawn)
        tokens: list[int]
        possible, tokens = torch.cat((torch.isfinite(best), chosen), 1).T.tolist()
        for row, fine in zip(rows, possible, strict=True):
            if not fine:
                raise SequenceError(row.name, "no token can follow: every score is -inf, or the model gave NaN")
        return tokens

    def scores(self, logits: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        """Scores float32[rows, columns] after the rules on scores; columns past the vocabulary are -inf."""
        scores = logits.float()
        rest = -scores.shape[1] % COLUMNS
        if rest:
            scores = pad(scores, (0, rest), value=-torch.inf)
        return _apply(self._score_rules, scores, rows)

    def weights(self, scores: Tensor, best: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
        """What each token weighs in the draw, float32[rows, columns]: 1 for the likeliest, 0 for what is cut.

        `best` `[rows, 1]` are the highest scores, `rows` none that are greedy. Temperature is applied here.
        """
        distance = scores - best
        if any(row.params.temperature != 1 for row in rows):
            distance /= column([row.params.temperature for row in rows], scores)
        return _apply(self._filters, distance.exp_(), rows)


def _apply(rules: Sequence[Rule], values: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """The rules one after the other, each on the rows that it concerns."""
    for rule in rules:
        concerned = [index for index, row in enumerate(rows) if rule.concerns(row)]
        if len(concerned) == len(rows):
            values = rule.apply(values, rows)
        elif concerned:
            values[concerned] = rule.apply(values[concerned], [rows[index] for index in concerned])
    return values


def _draw(weights: Tensor, rows: Sequence[SamplingRow]) -> Tensor:
    """Token ids int64[rows, 1]: the first at which the summed weights reach (1 - u) times their total, u in [0, 1).

    That product is above 0 and not above the total, so that a token of weight 0 is never the first.
    """
    cdf = weights.cumsum(1)
    share = [1 - uniform(row.seed, len(row.output)) for row in rows]
    return torch.searchsorted(cdf, cdf[:, -1:] * column(share, cdf))
