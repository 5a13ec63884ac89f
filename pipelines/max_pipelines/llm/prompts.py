"""Prompts as vLLM's callers write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypeAlias, TypedDict, cast

from .media import TEXT_ALONE, PromptMedia


class TextPrompt(TypedDict):
    """A prompt as text."""

    prompt: str
    multi_modal_data: NotRequired[Mapping[str, Any]]
    mm_processor_kwargs: NotRequired[Mapping[str, Any]]


class TokensPrompt(TypedDict):
    """A prompt as token ids."""

    prompt_token_ids: Sequence[int]
    prompt: NotRequired[str]
    multi_modal_data: NotRequired[Mapping[str, Any]]
    mm_processor_kwargs: NotRequired[Mapping[str, Any]]


PromptType: TypeAlias = str | Sequence[int] | TextPrompt | TokensPrompt
Prompts: TypeAlias = PromptType | Sequence[PromptType]
Ids: TypeAlias = Sequence[int] | Sequence[Sequence[int]] | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: its text, if it was given, and its ids, if they were. The ids are what the model reads then.

    Text or ids have the model's own placeholders for its `media`.
    """

    text: str | None
    ids: tuple[int, ...] | None
    media: PromptMedia = TEXT_ALONE

    @property
    def read(self) -> str | tuple[int, ...]:
        """What the model is given."""
        return self.ids if self.ids is not None else self.text or ""


def prompts_of(
    prompts: Prompts | None,
    ids: Ids = None,
    inputs: Prompts | None = None,
    *,
    skip_tokenizer: bool = False,
) -> tuple[list[Prompt], bool]:
    """All prompts of a call, in their order, and whether it was one that was no list.

    `ids` are the older way to give them, alone or beside the texts that they belong to; `inputs` is a newer name of
    `prompts`. ValueError, TypeError for none, both, another number of texts than of ids, what is no prompt, and texts
    for a model without a tokenizer.
    """
    if prompts is not None and inputs is not None:
        raise ValueError("give prompts or inputs, not both")
    given = inputs if prompts is None else prompts
    single = given is None or _is_one(given)
    if given is None and ids is None:
        raise ValueError("give prompts: a string, token ids, or a list of them")
    listed = () if given is None else cast(Sequence[PromptType], (given,) if single else given)
    found = [_prompt(one) for one in listed]
    if ids is not None:
        alone = _is_ids(ids)
        rows = [tuple(cast(Sequence[int], row)) for row in ([ids] if alone else ids)]
        single = alone if given is None else single
        if given is not None and len(rows) != len(found):
            raise ValueError(f"prompt_token_ids: {len(rows)} of them for {len(found)} prompts; give one for each")
        known = found or [Prompt(None, None)] * len(rows)
        found = [replace(prompt, ids=row) for prompt, row in zip(known, rows, strict=True)]
    if skip_tokenizer and any(prompt.ids is None for prompt in found):
        raise ValueError("prompts: this LLM has no tokenizer (skip_tokenizer_init); give prompt_token_ids")
    return found, single


def _is_one(given: Prompts) -> bool:
    return isinstance(given, str | Mapping) or _is_ids(given)


def _is_ids(given: object) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str) and bool(given) and isinstance(given[0], int)


def _prompt(given: PromptType) -> Prompt:
    if isinstance(given, str):
        return Prompt(given, None)
    if isinstance(given, Mapping):
        _refuse_encoders(given)
        text, ids = given.get("prompt"), given.get("prompt_token_ids")
        if text is None and ids is None:
            raise TypeError(f"a prompt with {', '.join(given) or 'nothing in it'}: it needs prompt or prompt_token_ids")
        return Prompt(text, None if ids is None else tuple(cast(Sequence[int], ids)), PromptMedia.of(given))
    if _is_ids(given):
        return Prompt(None, tuple(given))
    raise TypeError(f"prompts: {given!r:.80} is no prompt; it must be a string, a list of ids, or a mapping of either")


def _refuse_encoders(given: Mapping[str, object]) -> None:
    for name in ("encoder_prompt", "decoder_prompt"):
        if name in given:
            raise ValueError(
                f"{name}: give an encoder-decoder's encoder prompt as prompt; its decoder begins by itself"
            )


def each(given: object, count: int, name: str) -> list[Any]:
    """One of `given` for each of `count` prompts: itself, or if it is a list, its entries. ValueError for too few."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        return [given] * count
    if len(given) != count:
        raise ValueError(f"{name}: {len(given)} of them for {count} prompts; give one, or one for each")
    return list(given)
