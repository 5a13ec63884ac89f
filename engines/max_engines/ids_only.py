"""A tokenizer that is none: for a model that is given ids and gives ids."""

from __future__ import annotations

from typing import NoReturn

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from .tokenizer import TextTokenizer

REFUSAL = "this model is served without a tokenizer (model.tokenizer: none); give the prompt as token ids"


class IdsOnly(TextTokenizer):
    """Knows no token: every text of its is empty. ValueError for whatever would have to be read."""

    def __init__(self) -> None:
        inner = Tokenizer(models.BPE())
        inner.decoder = decoders.ByteLevel()
        super().__init__(PreTrainedTokenizerFast(tokenizer_object=inner))  # type: ignore[no-untyped-call]

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> NoReturn:
        """ValueError."""
        raise ValueError(REFUSAL)

    def chat_template(self, given: str | None, *, tools: bool) -> NoReturn:
        """ValueError."""
        raise ValueError(REFUSAL)
