"""The tokenizer of transformers in this process: loaded when somebody wants it, as the road needs none here."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..config import ModelConfig
from ..engines import build_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class LazyTokenizer:
    """The tokenizer of a served model."""

    def __init__(self, model: ModelConfig) -> None:
        self._model = model

    @cached_property
    def inner(self) -> PreTrainedTokenizerBase:
        """Load it. ValueError if there is none."""
        if self._model.tokenizer == "none":
            raise ValueError("this LLM has no tokenizer (skip_tokenizer_init)")
        return build_tokenizer(self._model).inner
