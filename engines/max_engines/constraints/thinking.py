"""How long a model may think before it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from max_interfaces.sampling import DEFAULT_SAMPLING, SamplingParams

from .following import Follower
from .vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class ThinkingTags:
    """The ids between which a model thinks."""

    start_id: int
    end_id: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, params: SamplingParams = DEFAULT_SAMPLING) -> ThinkingTags | None:
        """The ids of the tokens that `params` name if both are tokens of their own; None: this model has none."""
        added = tokenizer.get_added_vocab()
        start, end = added.get(params.thinking_start_token), added.get(params.thinking_end_token)
        return None if start is None or end is None else cls(start, end)

    def open_after(self, prompt: Sequence[int]) -> bool:
        """True if the prompt ends within a block: the last tag in it is a start."""
        last = next((token for token in reversed(prompt) if token in (self.start_id, self.end_id)), self.end_id)
        return last == self.start_id


class ThinkingBudget(Follower):
    """At most `budget` tokens of thinking in all, the tags not counted; then the end id is the only one allowed.

    Exactly so many: mlx-vlm, whose parameter it is, allows one more and then forces a line break and the end id. What
    one block leaves over, the next may use. When nothing is left, a block may be opened only if it is the first, which
    a model may have been trained to do always, and it ends at once. Outside of blocks nothing is counted.
    """

    def __init__(self, tags: ThinkingTags, budget: int, vocabulary: Vocabulary, *, open_at_start: bool = False) -> None:
        self._tags = tags
        self._budget = budget
        self._open_at_start = open_at_start
        self._vocabulary = vocabulary
        super().__init__()

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `TokenConstraint.allowed`."""
        self._follow(tokens)
        if self._used < self._budget:
            return None
        if self._inside:
            return self._vocabulary.only((self._tags.end_id,))
        return self._vocabulary.without((self._tags.start_id,)) if self._opened else None

    def _begin(self) -> None:
        self._inside = self._opened = self._open_at_start
        self._used = 0

    def _feed(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            if self._inside and token == self._tags.end_id:
                self._inside = False
            elif self._inside:
                self._used += 1
            elif token == self._tags.start_id:
                self._inside = self._opened = True
