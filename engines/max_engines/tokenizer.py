"""Text to token ids and back, through transformers' tokenizers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from .detokenizer import Detokenizer, PieceDetokenizer, TokenPieces, WindowDetokenizer, decoded
from .loading import LOAD_ERRORS, first_line, model_source
from .template_terms import GOES_ON, SHIELD

BLANKS = " \t\n\r▁"
FILES = ("config.json", "tokenizer_config.json")  # one is enough: a tokenizer may lie in a folder of its own
MOST_FORGED = 2**14  # special tokens written out in a conversation: 0.2 s, for which all others wait
PROMPT_TAIL = 8  # ids of a prompt that a decoder without known pieces is shown: enough for one whole character


class TextTokenizer:
    """The `Tokenizer` of `max_interfaces`, over a tokenizer of transformers."""

    def __init__(self, inner: PreTrainedTokenizerBase) -> None:
        self._inner = inner
        # Runs of blanks, which Gemma's and GPT-NeoX's have among their added tokens, say nothing that a text may not.
        self._added = {name: token for name, token in inner.get_added_vocab().items() if name.strip(BLANKS)}
        special = {form.content for form in inner.added_tokens_decoder.values() if form.special}
        self._special = {name: token for name, token in self._added.items() if name in special}
        self._pieces = TokenPieces.of(inner.backend_tokenizer) if inner.is_fast else None
        flagged = frozenset(token for token, form in inner.added_tokens_decoder.items() if form.special)
        self.special_ids = flagged if self._pieces else frozenset(inner.all_special_ids)  # what a text leaves out

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

    def _parsed(self, text: str) -> list[int]:
        ids: list[int] = self._inner.encode(text, add_special_tokens=False)
        return ids

    def _plain_pieces(self, text: str) -> list[str]:
        """The text, cut inside whatever would become an added token.

        transformers splits up only those that are flagged as special. Orpheus's `<custom_token_7>` is not, and would
        let a text end its own turn.
        """
        return self._cut(text, self._added, self._plain)

    def _cut(self, text: str, names: Mapping[str, int], encode: Callable[[str], list[int]]) -> list[str]:
        """The text, cut inside each of `names`, if what `encode` makes of it has one.

        A tokenizer that folds case or width reads other spellings too: there each character is a piece.
        """
        unwanted = frozenset(names.values())
        forged = sum(token in unwanted for token in encode(text))
        if not forged:
            return [text]
        _check_forged(forged)
        there = [name for name in names if len(name) > 1 and name in text]
        found = {match.start() + 1 for name in there for match in re.finditer(f"(?={re.escape(name)})", text)}
        cuts = [0, *sorted(found), len(text)]
        pieces = [text[begin:end] for begin, end in pairwise(cuts)]
        return pieces if unwanted.isdisjoint(encode(SHIELD.join(pieces))) else list(text)

    def shielded(self, text: str, *, own_words: bool = False) -> str:
        """The text of a message, so that no special token written out in it is one for `encode_shielded`.

        With `own_words` of the model, added tokens that are not flagged as special are themselves: what it thought
        and which tools it called. ValueError for a text with a character that means something here.
        """
        for mark in (SHIELD, GOES_ON[0]):
            if mark in text:
                raise ValueError(f"messages: a text has the noncharacter U+{ord(mark):04X}, which no text may have")
        return SHIELD.join(self._cut(text, self._special if own_words else self._added, self._parsed))

    def encode_shielded(self, text: str) -> list[int]:
        """The ids of a filled-in template: special tokens are themselves but where they are shielded."""
        pieces = text.split(SHIELD)
        _check_forged(len(pieces) - 1)
        return [
            token
            for piece in pieces
            for token in self.encode(piece, add_special_tokens=False, parse_special_tokens=True)
        ]

    def chat_template(self, given: str | None, *, tools: bool) -> str:
        """The model's template, or the one that is `given` as text or by name. ValueError if there is none."""
        try:
            return str(self._inner.get_chat_template(given, [{}] if tools else None))
        except ValueError:
            raise ValueError("messages: this model has no chat template; give chat_template, or a prompt") from None

    @property
    def special_names(self) -> dict[str, str]:
        """What templates know the special tokens by: `bos_token` and the like."""
        return {name: str(token) for name, token in self._inner.special_tokens_map.items() if isinstance(token, str)}

    @property
    def inner(self) -> PreTrainedTokenizerBase:
        """The tokenizer of transformers."""
        return self._inner

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `ids`, as `detokenizer` gives it piece by piece."""
        if self._pieces is None:
            return self._decode(ids, skip_special_tokens)
        return decoded(self.detokenizer(skip_special_tokens=skip_special_tokens), ids)

    def own_text(self, token: int) -> str:
        """The text of one id in the midst of others; bytes that are no whole character are U+FFFD."""
        if self._pieces is None:
            return self._decode((token,), skip_special_tokens=False)
        piece = self._pieces.find(token, skip_special_tokens=False)
        return piece if isinstance(piece, str) else piece.decode(errors="replace")

    def detokenizer(
        self,
        *,
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,
        prompt: Sequence[int] = (),
    ) -> Detokenizer:
        """Text as ids come. After a `prompt` it is the text that follows the prompt's.

        Blanks stand between special tokens only where the tokenizer's own decoder writes them.
        """
        if self._pieces is not None:
            return PieceDetokenizer(self._pieces, skip_special_tokens=skip_special_tokens, continues=bool(prompt))
        special = frozenset(self._inner.all_special_ids)

        def decode(ids: Sequence[int]) -> str:
            return self._decode(ids, skip_special_tokens, spaces_between_special_tokens)

        return WindowDetokenizer(decode, special if skip_special_tokens else frozenset(), prompt[-PROMPT_TAIL:])

    def _decode(self, ids: Sequence[int], skip_special_tokens: bool, spaces_between_special_tokens: bool = True) -> str:
        return str(
            self._inner.decode(
                list(ids),
                skip_special_tokens=skip_special_tokens,
                clean_up_tokenization_spaces=False,
                spaces_between_special_tokens=spaces_between_special_tokens,
            )
        )


def _check_forged(count: int) -> None:
    if count > MOST_FORGED:
        raise ValueError(f"messages: write special tokens out {count} times, may do so {MOST_FORGED} times at most")


def load_tokenizer(path_or_id: str | Path, *, revision: str | None = None, slow: bool = False) -> TextTokenizer:
    """Load the tokenizer beside a model. ValueError if there is none.

    `revision` is a branch, a tag or a commit on the hub; `slow` takes the one in Python where there are two.
    """
    source = model_source(path_or_id, FILES)
    try:
        inner = AutoTokenizer.from_pretrained(source, trust_remote_code=False, revision=revision, use_fast=not slow)
    except LOAD_ERRORS as problem:
        raise ValueError(f"cannot load the tokenizer of {source!r}: {first_line(problem)}") from problem
    return TextTokenizer(inner)
