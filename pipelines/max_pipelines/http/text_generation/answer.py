"""The objects of an answer, by the names that the API's document gives their fields."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from max_interfaces import GenerationStatus, TextGenerationOutput, TokenTexts

from ..problems import HttpProblem
from .parameters import Parameters

FINISHED = {
    GenerationStatus.MAXIMUM_LENGTH: "length",
    GenerationStatus.END_OF_SEQUENCE: "eos_token",
    GenerationStatus.STOP_SEQUENCE: "stop_sequence",
}
NO_TEXTS = TokenTexts()


class Token(msgspec.Struct, frozen=True):
    """A token of the answer. `text` is what it adds: "" as long as a character is incomplete."""

    id: int
    text: str
    logprob: float
    special: bool


class PrefillToken(msgspec.Struct, frozen=True):
    """A token of the prompt; the first has no log probability, for nothing stands before it."""

    id: int
    text: str
    logprob: float | None


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one text came about. `top_tokens` are left out if nobody asked for them."""

    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | UnsetType = UNSET


class Candidate(Told, frozen=True, kw_only=True):
    """One of the texts of `best_of` that are not the best."""

    generated_text: str


class Details(Told, frozen=True, kw_only=True):
    """The details of the answer."""

    best_of_sequences: list[Candidate] | UnsetType = UNSET


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole answer."""

    generated_text: str
    details: Details | UnsetType = UNSET


def answer_of(texts: Sequence[TextGenerationOutput], given: Parameters, seed: int | None, before: str) -> Answer:
    """The answer whose texts are these, the best first. `before` stands before each of them."""
    best, *others = texts
    generated = before + best.text
    reason = finish_reason(best)
    if not given.wants_details:
        return Answer(generated)
    candidates = [_candidate(before + one.text, one, seed) for one in others]
    details = Details(
        finish_reason=reason,
        generated_tokens=len(best.tokens),
        seed=seed,
        prefill=_prefill(best),
        tokens=tokens_of(best),
        top_tokens=tops_of(best) or UNSET,
        best_of_sequences=candidates or UNSET,
    )
    return Answer(generated, details)


def _candidate(generated_text: str, text: TextGenerationOutput, seed: int | None) -> Candidate:
    return Candidate(
        generated_text=generated_text,
        finish_reason=finish_reason(text),
        generated_tokens=len(text.tokens),
        seed=seed,
        prefill=_prefill(text),
        tokens=tokens_of(text),
        top_tokens=tops_of(text) or UNSET,
    )


def finish_reason(output: TextGenerationOutput) -> str:
    """How a text ended. HttpProblem for one that did not come to its end."""
    reason = FINISHED.get(output.sequence_status)
    if reason is None:
        raise HttpProblem(500, "incomplete_generation", f"Incomplete generation: {output.final_status.value}")
    return reason


def tokens_of(output: TextGenerationOutput) -> list[Token]:
    """The tokens of an output, each with the log probability that the model gave it."""
    texts = output.token_texts or NO_TEXTS
    given = output.log_probabilities
    values = given.token_log_probabilities if given is not None else (0.0,) * len(output.tokens)
    return [
        Token(token, text, value, token in texts.special)
        for token, text, value in zip(output.tokens, texts.tokens, values, strict=True)
    ]


def tops_of(output: TextGenerationOutput) -> list[list[Token]]:
    """The likeliest tokens at the place of each token, the likeliest first; empty if nobody asked for them."""
    texts, given = output.token_texts or NO_TEXTS, output.log_probabilities
    rows = () if given is None else given.top_log_probabilities
    return [
        [
            Token(token, texts.top[token], value, token in texts.special)
            for token, value in sorted(row.items(), key=lambda entry: -entry[1])
        ]
        for row in rows
    ]


def _prefill(output: TextGenerationOutput) -> list[PrefillToken]:
    texts, given = output.token_texts or NO_TEXTS, output.prompt_log_probabilities
    if given is None:
        return []
    values = (None, *given.token_log_probabilities)
    return [
        PrefillToken(token, text, value)
        for token, text, value in zip(output.prompt_tokens, texts.prompt, values, strict=True)
    ]
