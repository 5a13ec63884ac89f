"""Text to token ids and back, through transformers' tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .loading import LOAD_ERRORS, first_line, model_source


class TextTokenizer:
    """The `Tokenizer` of `max_interfaces`, over a tokenizer of transformers."""

    def __init__(self, inner: PreTrainedTokenizerBase) -> None:
        self._inner = inner

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        eos = self._inner.eos_token_id
        return frozenset() if eos is None else frozenset((int(eos),))

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`. Special tokens written out in it are plain characters unless they are to be parsed."""
        ids: list[int] = self._inner.encode(
            text, add_special_tokens=add_special_tokens, split_special_tokens=not parse_special_tokens
        )
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`."""
        return str(
            self._inner.decode(list(ids), skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
        )


def load_tokenizer(path_or_id: str | Path) -> TextTokenizer:
    """Load the tokenizer beside a model. ValueError if there is none."""
    source = model_source(path_or_id)
    try:
        inner = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot load the tokenizer of {source!r}: {first_line(problem)}") from problem
    return TextTokenizer(inner)
