"""Scores to tokens: the rules in their order, then the likeliest token or a draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from .continuations import Continuations
from .draw import DrawFromAll, DrawFromFew, look
from .likeliest import COLUMNS, highest
from .log_probabilities import PendingLogProbabilities, Wanted
from .rules import Layout, Rule, Watermark, score_rules
from .sampled import Sampled
from .sampling_row import SamplingRow


class Sampler:
    """Chooses the next token of many rows at once; a row's token does not depend on the others.

    What a batch of rows asks for is sorted out once, when the batch changes, and kept as its plan.
    """

    def __init__(self, watermark: Watermark | None = None) -> None:
        self._rules = score_rules(Watermark() if watermark is None else watermark)
        self._plan: Plan | None = None

    @torch.inference_mode()
    def sample(self, logits: Tensor, rows: Sequence[SamplingRow]) -> Sampled:
        """One token for each of `rows`, whose logits are `logits` `[rows, vocabulary]` (may be overwritten).

        Changes no row. Raises SequenceError for a row whose constraint or processor fails.
        """
        plan = self._plan_for(logits, rows)
        raw = {wanted: logits[indices] for wanted, indices in plan.asked.items()}
        told = {key: (indices, logits[indices]) for key, indices in plan.told.items()}
        searched: list[Continuations] = []
        if plan.as_they_are:
            best, tokens = highest(logits)
        else:
            scores = plan.scores(logits)
            best, tokens = plan.choose(scores)
            searched = plan.continuations(scores, told)
        pending = [
            (indices, PendingLogProbabilities(raw[wanted], tokens[indices], wanted))
            for wanted, indices in plan.asked.items()
        ]
        return Sampled(tokens, best, plan.names, pending, searched)

    def _plan_for(self, logits: Tensor, rows: Sequence[SamplingRow]) -> Plan:
        size = logits.shape[1]
        layout = Layout(size, -(-size // COLUMNS) * COLUMNS, logits.device)
        if self._plan is None or self._plan.rows != [*rows] or self._plan.layout != layout:
            self._plan = Plan(rows, layout, self._rules)
        return self._plan


class Plan:
    """What one batch asks for. `rows` are compared by identity: what a row asks for never changes."""

    def __init__(self, rows: Sequence[SamplingRow], layout: Layout, rules: Sequence[Rule]) -> None:
        self.rows = list(rows)
        self.layout = layout
        self.names = [row.name for row in rows]
        self.asked: dict[Wanted, list[int]] = {}
        self.told: dict[tuple[int, Wanted], list[int]] = {}  # of each continuation of beams that want so many
        self._beams: dict[int, list[int]] = {}  # by how many continuations they want
        for index, row in enumerate(rows):
            if row.continuations:
                self._beams.setdefault(row.continuations, []).append(index)
            if row.wanted is not None and row.continuations:
                self.told.setdefault((row.continuations, row.wanted), []).append(index)
            elif row.wanted is not None:
                self.asked.setdefault(row.wanted, []).append(index)
        self._applied = []
        for rule in rules:
            concerned = {index: row for index, row in enumerate(rows) if rule.concerns(row)}
            if concerned:
                self._applied.append(rule.prepare(concerned, layout))
        self._some_greedy = any(row.params.greedy for row in rows)
        self._draws = self._draws_of(rows)

    @property
    def as_they_are(self) -> bool:
        """True if the highest logit is the choice in every row."""
        return not self._applied and not self._draws and not self._beams

    def scores(self, logits: Tensor) -> Tensor:
        """Scores float32[rows, columns] after the rules on scores; columns past the vocabulary are -inf.

        Those of beams are log probabilities, to which the rules apply as they are, as in transformers.
        """
        scores = logits.float()
        if self.layout.columns > self.layout.vocab_size:
            scores = pad(scores, (0, self.layout.columns - self.layout.vocab_size), value=-torch.inf)
        scores = scores.contiguous()
        for beams in self._beams.values():
            if len(beams) == len(scores):
                scores = scores.log_softmax(1)
            else:
                scores[beams] = scores[beams].log_softmax(1)
        for apply in self._applied:
            apply(scores)
        return scores

    def continuations(
        self, scores: Tensor, told: Mapping[tuple[int, Wanted], tuple[Sequence[int], Tensor]]
    ) -> list[Continuations]:
        """What may follow the rows that are beams, after the rules; `told` has the logits of those that tell theirs."""
        return [
            Continuations(scores, beams, count, {wanted: raw for (own, wanted), raw in told.items() if own == count})
            for count, beams in self._beams.items()
        ]

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The highest score of each row, and the token that is chosen: that one's, or one drawn."""
        if self._some_greedy:
            best, tokens = highest(scores)
        else:
            best = scores.amax(1)
            tokens = torch.empty(len(self.rows), dtype=torch.int64, device=scores.device)
        for where, draw in self._draws:
            if where is None:
                tokens = draw.tokens(scores, best[:, None])
            else:
                tokens[where] = draw.tokens(scores[where], best[where, None])
        if self._draws and self.layout.columns > self.layout.vocab_size:
            # A row with NaN may draw a column that is no id, and the next step look it up before this one is read.
            tokens.clamp_max_(self.layout.vocab_size - 1)
        return best, tokens

    def _draws_of(self, rows: Sequence[SamplingRow]) -> list[tuple[Tensor | None, DrawFromAll | DrawFromFew]]:
        """One draw for the rows with `top_k`, one for those with a nucleus, one for those that look at everything."""
        kinds: dict[tuple[bool, bool], list[int]] = {}
        for index, row in enumerate(rows):
            if not row.params.greedy:
                kinds.setdefault((look(row) > 0, row.params.top_k > 0), []).append(index)
        draws: list[tuple[Tensor | None, DrawFromAll | DrawFromFew]] = []
        for indices in kinds.values():
            drawn = [rows[index] for index in indices]
            where = None if len(drawn) == len(rows) else torch.tensor(indices, device=self.layout.device)
            count = max(map(look, drawn))
            few = 0 < count < self.layout.columns - COLUMNS
            draws.append((where, DrawFromFew(drawn, self.layout, count) if few else DrawFromAll(drawn, self.layout)))
        return draws
