"""Soft prompts (https://arxiv.org/abs/2104.08691): learned hidden states that stand before a prompt."""

from __future__ import annotations

from torch import Tensor

from ..prompt_states import PromptStates
from .folder import ORIGIN, SETTINGS, WEIGHTS, PeftFolder, Settings, invalid, refuse_unknown

KINDS = ("PROMPT_TUNING", "P_TUNING")  # what the second was trained with, is not needed to run it
WEIGHT = "prompt_embeddings"
TRAINING = frozenset({"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs"})
TRAINING |= {"encoder_reparameterization_type", "encoder_hidden_size", "encoder_num_layers", "encoder_dropout"}
TRAINING |= {"num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers"}


class SoftPrompt:
    """Hidden states `[tokens, hidden]` that stand at the first positions."""

    def __init__(self, states: Tensor) -> None:
        self.states = PromptStates(range(len(states)), states)

    @property
    def length(self) -> int:
        """How many positions it takes."""
        return self.states.end


def read_soft_prompt(folder: PeftFolder, settings: Settings, longest: int, hidden: int, like: Tensor) -> SoftPrompt:
    """The soft prompt in a folder, in the type and on the device of `like`. AdapterRefused if it does not fit."""
    refuse_unknown(settings, ORIGIN | TRAINING)
    if settings.get("num_transformer_submodules") not in (None, 1):
        raise invalid(f"{SETTINGS}: num_transformer_submodules: is for an encoder-decoder; this is a decoder")
    tensors = folder.tensors(longest * hidden)
    states = tensors.pop(WEIGHT, None)
    if states is None or tensors:
        raise invalid(f"{WEIGHTS}: a soft prompt is {WEIGHT} alone; this one has {sorted(tensors)[:4]}")
    if states.dim() != 2 or states.shape[1] != hidden or not 1 <= states.shape[0] <= longest:
        raise invalid(f"{WEIGHTS}: {WEIGHT} is {tuple(states.shape)}, where (1 to {longest}, {hidden}) is needed")
    if settings.get("num_virtual_tokens") != states.shape[0]:
        raise invalid(f"{SETTINGS}: num_virtual_tokens is not {states.shape[0]}, as in {WEIGHTS}")
    converted = states.to(like)
    if not bool(converted.isfinite().all()):
        raise invalid(f"{WEIGHTS}: {WEIGHT} is beyond {like.dtype}")
    return SoftPrompt(converted)
