"""What each token of a model writes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens as a grammar sees them: those of `size` ids that write text, and those that end it.

    A model may have more ids than its tokenizer; these are never allowed. Nor are special tokens and what else has
    been added to a tokenizer in angle brackets (`<|im_end|>`, `<think>`), but for `end_ids` where a text may end.
    """

    size: int
    end_ids: frozenset[int]
    _backend: Tokenizer | None = field(repr=False)
    _masks: dict[tuple[bool, frozenset[int]], NDArray[np.bool_]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, *, size: int, end_ids: frozenset[int]) -> Vocabulary:
        """The vocabulary of a model with `size` ids and transformers' `tokenizer`. Cheap; read when first needed."""
        return cls(size, end_ids, getattr(tokenizer, "backend_tokenizer", None))

    @cached_property
    def tokens(self) -> LLTokenizer:
        """The bytes of every token, as llguidance keeps them: 0.05 s for 16k tokens, 0.6 s for 128k.

        ValueError if this tokenizer does not say what its tokens write.
        """
        if self._backend is None:
            raise ValueError("this model's tokenizer has no tokenizer.json, which grammars need")
        described = self._backend.to_str()
        if self._backend.padding or self._backend.truncation:  # how some batch was encoded, no part of what tokens are
            described = json.dumps({**json.loads(described), "padding": None, "truncation": None})
        size = max(self.size, self._backend.get_vocab_size(with_added_tokens=True))
        try:
            return LLTokenizer(described, n_vocab=size, eos_token=sorted(self.end_ids), slices=None)
        except (ValueError, RuntimeError) as problem:
            first = str(problem).partition("\n")[0]
            raise ValueError(f"this model's tokenizer cannot be used with grammars ({first:.200})") from problem

    @cached_property
    def text(self) -> NDArray[np.bool_]:
        """bool[size]: the ids that write text or end it. A grammar in Lark can name others, and does not get them."""
        known = min(self.size, self.tokens.vocab_size)
        ids = [id_ for id_ in range(known) if id_ in self.end_ids or not self.tokens.is_special_token(id_)]
        text = np.zeros(self.size, np.bool_)
        text[ids] = True
        return text

    def only(self, ids: Iterable[int]) -> NDArray[np.bool_]:
        """bool[size]: these ids. The same array for the same ids, which the caller must not write to."""
        return self._mask(True, ids)

    def without(self, ids: Iterable[int]) -> NDArray[np.bool_]:
        """bool[size]: all ids but these. The same array for the same ids, which the caller must not write to."""
        return self._mask(False, ids)

    def _mask(self, value: bool, ids: Iterable[int]) -> NDArray[np.bool_]:
        key = (value, frozenset(ids))
        if key not in self._masks:
            mask = np.full(self.size, not value)
            mask[list(key[1])] = value
            mask.setflags(write=False)
            self._masks[key] = mask
        return self._masks[key]
