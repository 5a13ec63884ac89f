"""One constraint of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_interfaces.protocols import TokenConstraint

from .errors import ConstraintError
from .following import Follower
from .matching import CompiledGrammar
from .thinking import ThinkingBudget, ThinkingTags
from .vocabulary import Vocabulary


def sequence_constraint(
    prompt: Sequence[int],
    vocabulary: Vocabulary,
    *,
    grammar: CompiledGrammar | None = None,
    tags: ThinkingTags | None = None,
    thinking_budget: int | None = None,
) -> TokenConstraint | None:
    """The constraint of one sequence after `prompt`, for no other; None if nothing was asked for.

    ValueError for a `thinking_budget` without `tags`. The package's docstring says how the two go together.
    """
    if thinking_budget is not None and tags is None:
        raise ValueError(
            f"SamplingParams.thinking_budget = {thinking_budget}: this model's tokenizer has no tokens <think> and "
            "</think>; leave it None"
        )
    form: TokenConstraint | None = None if grammar is None else grammar.constraint()
    if tags is None:
        return form
    inside = tags.open_after(prompt)
    if form is not None and (inside or thinking_budget is not None):
        form = AfterThinking(form, tags, vocabulary, open_at_start=inside)
    if thinking_budget is None:
        return form
    budget = ThinkingBudget(tags, thinking_budget, vocabulary, open_at_start=inside)
    return budget if form is None else Combined((budget, form))


class AfterThinking(Follower):
    """A grammar that begins behind the thinking, and sees nothing of it.

    Unless a block is open already, the first token may open one. Inside it only the ids that end the text are
    forbidden. Behind it, and from the start if none is opened, all is the grammar's.
    """

    def __init__(
        self, form: TokenConstraint, tags: ThinkingTags, vocabulary: Vocabulary, *, open_at_start: bool
    ) -> None:
        self._form = form
        self._tags = tags
        self._open_at_start = open_at_start
        self._inside_mask = vocabulary.without(vocabulary.end_ids)
        self._start_mask: NDArray[np.bool_] | None = None
        super().__init__()

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `TokenConstraint.allowed`."""
        self._follow(tokens)
        if self._inside:
            return self._inside_mask
        if not tokens:
            return self._with_start()
        return self._form.allowed(tokens[self._form_begins :])

    def _with_start(self) -> NDArray[np.bool_] | None:
        """What the grammar allows at its beginning, or the start of a block."""
        allowed = self._form.allowed(())
        if allowed is not None and self._start_mask is None:
            self._start_mask = allowed.copy()
            self._start_mask[self._tags.start_id] = True
        return self._start_mask

    def _begin(self) -> None:
        self._fed = self._form_begins = 0
        self._inside = self._open_at_start

    def _feed(self, tokens: Sequence[int]) -> None:
        if self._fed == 0 and tokens[0] == self._tags.start_id:
            self._inside = True
        if self._inside and self._tags.end_id in tokens:
            self._inside = False
            self._form_begins = self._fed + tokens.index(self._tags.end_id) + 1
        self._fed += len(tokens)


class Combined:
    """What all of several constraints allow. `ConstraintError` if they leave nothing: no one of them wins."""

    def __init__(self, constraints: Sequence[TokenConstraint]) -> None:
        self._constraints = tuple(constraints)
        self._last: tuple[tuple[NDArray[np.bool_], ...], NDArray[np.bool_]] | None = None

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `TokenConstraint.allowed`."""
        answers = [constraint.allowed(tokens) for constraint in self._constraints]
        masks = tuple(answer for answer in answers if answer is not None)
        if len(masks) < 2:
            return masks[0] if masks else None
        if self._last is not None and _same(self._last[0], masks):
            return self._last[1]
        both: NDArray[np.bool_] = np.logical_and.reduce(masks)
        if not both.any():
            raise ConstraintError("its constraints leave no token that all of them allow")
        self._last = (masks, both)
        return both


def _same(some: tuple[NDArray[np.bool_], ...], others: tuple[NDArray[np.bool_], ...]) -> bool:
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))
