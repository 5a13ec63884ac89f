"""A checkpoint whose weights are quantised becomes a module of transformers whose weights are floats."""

from __future__ import annotations

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file, get_checkpoint_shard_files

from .methods import Settings, quantization_config, schemes
from .reading import stored_weights

KINDS = {
    AutoModel: MODEL_MAPPING,
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSeq2SeqLM: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
}


def own_quantization(source: str, revision: str | None = None) -> Settings | None:
    """The `quantization_config` of the checkpoint at `source`, a folder or a hub id; None for one of plain floats."""
    raw, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    return quantization_config(raw)


def open_quantized(
    source: str, factory: type, settings: Settings, dtype: torch.dtype | str, revision: str | None
) -> tuple[PreTrainedModel, dict[str, set[str]]]:
    """The module on the CPU, and what transformers found out about its weights.

    `source` has been seen to be a model that `factory`, one of transformers', makes; `settings` are its own.
    ValueError for quantisation that is not known.
    """
    known = schemes(settings)
    config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False, revision=revision)
    kind: type[PreTrainedModel] = KINDS[factory][type(config)]  # type: ignore[assignment, index]
    if kind.config_class is not type(config):
        config = config.get_text_config(decoder=True)  # the language model is one part of several
    for name in ("quantization_config", "compression_config"):
        config.__dict__.pop(name, None)  # else transformers would ask for the method's own package
    opened: tuple[PreTrainedModel, dict[str, set[str]]] = kind.from_pretrained(  # type: ignore[assignment]
        None,
        config=config,
        state_dict=stored_weights(_files(source, revision), known),
        generation_config=_generation_config(source, revision),
        dtype=dtype,
        output_loading_info=True,
    )
    return opened


def _files(source: str, revision: str | None) -> list[str]:
    """The paths of a checkpoint's safetensors, downloaded if need be."""
    index = cached_file(source, SAFE_WEIGHTS_INDEX_NAME, revision=revision, _raise_exceptions_for_missing_entries=False)
    if index is None:
        return [str(cached_file(source, SAFE_WEIGHTS_NAME, revision=revision))]
    files, _ = get_checkpoint_shard_files(source, index, revision=revision)  # type: ignore[no-untyped-call]
    return list(files)


def _generation_config(source: str, revision: str | None) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(source, revision=revision or "main")
    except OSError:  # there is none: the model's own configuration says it
        return None
