"""A model's forward pass up to where its language model would begin."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .slices import NoPause, Pause

NO_PAUSE = NoPause()


class Told(Exception):
    """Ends a forward pass, with what the language model was to be told."""

    def __init__(self, arguments: Mapping[str, object]) -> None:
        super().__init__()
        self.arguments = arguments


def arguments_of_language_model(
    whole: PreTrainedModel, ids: Tensor, features: Mapping[str, Tensor], pause: Pause = NO_PAUSE
) -> Mapping[str, object]:
    """What `whole` tells its language model of a prompt int64[1, tokens]; encoders run. Raises what they raise.

    They rest before a layer if `pause` is due; meanwhile the language model is as ever.
    """
    with _interrupted(whole, pause):
        try:
            whole(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, **features)
        except Told as told:
            return told.arguments
    raise RuntimeError("its language model was not called")


@contextmanager
def _interrupted(whole: PreTrainedModel, pause: Pause) -> Iterator[None]:
    """Within the block a call of the language model raises `Told`, and the encoders rest if `pause` is due.

    Others may run the same layers meanwhile, in their own threads, and do not rest here.
    """
    language: PreTrainedModel = whole.get_decoder()  # type: ignore[no-untyped-call]
    thread = threading.get_ident()

    def rest(layer: nn.Module, arguments: tuple[object, ...]) -> None:
        if pause.due and threading.get_ident() == thread:
            telling.close()
            pause.rest()
            telling.enter_context(_telling(language))

    own = set(language.modules())
    lists = [module for module in whole.modules() if isinstance(module, nn.ModuleList)]
    with ExitStack() as hooks, ExitStack() as telling:
        for layer in {layer for layers in lists for layer in layers} - own:
            hooks.callback(layer.register_forward_pre_hook(rest).remove)
        telling.enter_context(_telling(language))
        yield


@contextmanager
def _telling(language: PreTrainedModel) -> Iterator[None]:
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
