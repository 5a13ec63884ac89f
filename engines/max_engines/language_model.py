"""The language model within a model that sees or hears, as a causal LM of its own."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MULTIMODAL_LM_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5OmniThinkerConfig,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
)

# These have no causal LM of their own: on text they are these, to the name of each weight; their rotary module takes
# positions in three dimensions, too. An engine compares the two on text when it starts.
TWINS: dict[str, type[PreTrainedModel]] = {
    "qwen2_5_vl_text": Qwen2ForCausalLM,
    "qwen2_5_omni_text": Qwen2ForCausalLM,
    "qwen3_vl_text": Qwen3ForCausalLM,
}


def language_class(config: PreTrainedConfig) -> type[PreTrainedModel] | None:
    """Which causal LM is within a model that sees or hears; None for one of text alone, or without such a part."""
    text = config.get_text_config(decoder=True)
    within = type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING or type(config) is Qwen2_5OmniThinkerConfig
    if text is config or not within:
        return None
    if text.model_type in TWINS:
        return TWINS[text.model_type]
    found = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(text), None)
    return found if isinstance(found, type) else None


def language_model(
    whole: PreTrainedModel,
    kind: type[PreTrainedModel],
    decoder: nn.Module | None = None,
    head: nn.Module | None = None,
) -> PreTrainedModel:
    """The language model of `whole`, which goes on sharing its weights and modules.

    `decoder` and `head` are named where transformers does not know which they are.
    """
    with torch.device("meta"):  # all that is made here is thrown away for what `whole` has
        language = kind(kind.config_class.from_dict({"num_hidden_layers": 1}))  # type: ignore[union-attr]
    language.config = whole.config.get_text_config(decoder=True)
    language.set_submodule(language.base_model_prefix, decoder or whole.get_decoder())  # type: ignore[no-untyped-call]
    language.set_output_embeddings(head or whole.get_output_embeddings())  # type: ignore[no-untyped-call]
    language.generation_config = whole.generation_config
    language.requires_grad_(False)
    language.train(False)
    return language
