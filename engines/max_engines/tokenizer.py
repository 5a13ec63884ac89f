"""Text to token ids and back, through transformers' tokenizers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .loading import LOAD_ERRORS, first_line, model_source


class TextTokenizer:
    """The `Tokenizer` of `max_interfaces`, over a tokenizer of transformers."""

    def __init__(self, inner: PreTrainedTokenizerBase) -> None:
        self._inner = inner
        self._added = frozenset(inner.get_added_vocab().values())

    @property
    def eos_token_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        eos = self._inner.eos_token_id
        return frozenset() if eos is None else frozenset((int(eos),))

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special_tokens: bool = False) -> list[int]:
        """Token ids of `text`. Special tokens written out in it are plain characters unless they are to be parsed."""
        pieces = [text] if parse_special_tokens else self._plain_pieces(text)
        if len(pieces) == 1:
            ids: list[int] = self._inner.encode(
                text, add_special_tokens=add_special_tokens, split_special_tokens=not parse_special_tokens
            )
            return ids
        plain = [token for piece in pieces for token in self._plain(piece)]
        if not add_special_tokens:
            return plain
        probe = self._plain(pieces[0])  # what stands around it stands around every text
        framed = self._inner.encode(pieces[0], add_special_tokens=True, split_special_tokens=True)
        at = next(index for index in range(len(framed)) if framed[index : index + len(probe)] == probe)
        return [*framed[:at], *plain, *framed[at + len(probe) :]]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False, split_special_tokens=True)
        return ids

    def _plain_pieces(self, text: str) -> list[str]:
        """The text, cut inside whatever would become an added token.

        transformers splits up only those that are flagged as special. Orpheus's `<custom_token_7>` is not, and would
        let a text end its own turn.
        """
        if self._added.isdisjoint(self._plain(text)):
            return [text]
        names = [name for name in self._inner.get_added_vocab() if len(name) > 1 and name in text]
        found = {match.start() + 1 for name in names for match in re.finditer(f"(?={re.escape(name)})", text)}
        cuts = [0, *sorted(found), len(text)]
        return [text[begin:end] for begin, end in pairwise(cuts)]

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
