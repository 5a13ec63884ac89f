"""A model's forward pass up to where its language model would begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


class Told(Exception):
    """Ends a forward pass, with what the language model was to be told."""

    def __init__(self, arguments: Mapping[str, object]) -> None:
        super().__init__()
        self.arguments = arguments


def arguments_of_language_model(
    whole: PreTrainedModel, ids: Tensor, features: Mapping[str, Tensor]
) -> Mapping[str, object]:
    """What `whole` tells its language model of a prompt int64[1, tokens]; encoders run. Raises what they raise."""
    with _interrupted(whole.get_decoder()):  # type: ignore[no-untyped-call]
        try:
            whole(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **features)
        except Told as told:
            return told.arguments
    raise RuntimeError("its language model was not called")


@contextmanager
def _interrupted(language: PreTrainedModel) -> Iterator[None]:
    """Within the block a call of `language` raises `Told`, and masks are those of torch's attention."""

    def interrupt(module: nn.Module, arguments: tuple[object, ...], named: Mapping[str, object]) -> None:
        raise Told(named)

    attention: str = language.config._attn_implementation
    language.set_attn_implementation("sdpa")
    handle = language.register_forward_pre_hook(interrupt, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
        language.set_attn_implementation(attention)
