"""Log probabilities, as chats and as completions give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from max_interfaces import LogProbabilities, TextGenerationOutput, TokenTexts

NO_LOGPROBS = LogProbabilities()
NO_TEXTS = TokenTexts()
INCOMPLETE = "\ufffd"  # what a part of a character is spelled as


class TopLogprob(msgspec.Struct, frozen=True):
    """A token that could have been chosen; `bytes` is null for a part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that was chosen: what it adds to the text, "" as long as a character is incomplete."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TopLogprob]


class ChoiceLogprobs(msgspec.Struct, frozen=True):
    """Those of an answer of a chat."""

    content: list[TokenLogprob]
    refusal: None = None


class LegacyLogprobs(msgspec.Struct, frozen=True):
    """Those of a completion. A text's first token, if it is there, has none: nothing stands before it."""

    tokens: list[str] = msgspec.field(default_factory=list)
    token_logprobs: list[float | None] = msgspec.field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] | None = None
    text_offset: list[int] = msgspec.field(default_factory=list)


def chat_logprobs(output: TextGenerationOutput) -> list[TokenLogprob]:
    """Of the tokens of an output, if it has any."""
    given, count = output.log_probabilities or NO_LOGPROBS, shown(output)
    texts = output.token_texts or NO_TEXTS
    values = given.token_log_probabilities[:count]
    rows = given.top_log_probabilities[:count] or ({},) * len(values)
    return [
        TokenLogprob(text, value, _bytes(text), [_top(texts.top[token], top) for token, top in row.items()])
        for text, value, row in zip(texts.tokens[:count], values, rows, strict=True)
    ]


def shown(output: TextGenerationOutput) -> int:
    """How many of the tokens are given: one that ended the text, and has no place in it, is not."""
    tokens, texts = output.tokens, output.token_texts or NO_TEXTS
    if not tokens or tokens[-1] != output.stop or (texts.tokens[-1] and output.text.endswith(texts.tokens[-1])):
        return len(tokens)
    return len(tokens) - 1


def _top(text: str, value: float) -> TopLogprob:
    return TopLogprob(text, value, _bytes(text))


def _bytes(text: str) -> list[int] | None:
    return None if INCOMPLETE in text else list(text.encode())


class LegacyCounter:
    """The log probabilities of one completion, piece by piece: offsets go on through its text."""

    def __init__(self, top: int, *, skips_special: bool) -> None:
        """`top` likeliest are wanted. Special tokens have no place in the text if it `skips_special` ones."""
        self._top = top
        self._skips_special = skips_special
        self._offset = 0

    def prompt(self, output: TextGenerationOutput) -> LegacyLogprobs:
        """Those of the prompt, if the output tells them."""
        given = output.prompt_log_probabilities
        if given is None or not output.prompt_tokens:
            return LegacyLogprobs()
        texts = output.token_texts or NO_TEXTS
        values, rows = given.token_log_probabilities, given.top_log_probabilities
        return self._spelled(output.prompt_tokens, texts.prompt, (None, *values), (None, *rows), texts)

    def output(self, output: TextGenerationOutput) -> LegacyLogprobs:
        """Those of an output's tokens."""
        given, texts = output.log_probabilities or NO_LOGPROBS, output.token_texts or NO_TEXTS
        count = shown(output)
        values, rows = given.token_log_probabilities[:count], given.top_log_probabilities[:count]
        return self._spelled(output.tokens[:count], texts.tokens[:count], values, rows, texts)

    def _spelled(
        self,
        tokens: Sequence[int],
        spelled: Sequence[str],
        values: Sequence[float | None],
        rows: Sequence[Mapping[int, float] | None],
        texts: TokenTexts,
    ) -> LegacyLogprobs:
        offsets: list[int] = []
        for token, text in zip(tokens, spelled, strict=True):
            offsets.append(self._offset)
            self._offset += 0 if self._skips_special and token in texts.special else len(text)
        top = [_row(*entry, texts) for entry in zip(rows, spelled, values, strict=True)] if self._top else None
        return LegacyLogprobs([*spelled], [*values], top, offsets)


def _row(
    row: Mapping[int, float] | None, chosen: str, value: float | None, texts: TokenTexts
) -> dict[str, float] | None:
    """The likeliest by their texts, and the chosen one; of several that are spelled alike, the likeliest."""
    if row is None or value is None:
        return None
    found: dict[str, float] = {}
    for token, top in row.items():
        found.setdefault(texts.top[token], top)
    found.setdefault(chosen, value)
    return found


def joined(pieces: Iterable[LegacyLogprobs]) -> LegacyLogprobs:
    """Those of one piece of a text after the other."""
    given = [piece for piece in pieces if piece.tokens]
    rows = [row for piece in given for row in piece.top_logprobs or []]
    return LegacyLogprobs(
        [token for piece in given for token in piece.tokens],
        [value for piece in given for value in piece.token_logprobs],
        rows or None,
        [offset for piece in given for offset in piece.text_offset],
    )
