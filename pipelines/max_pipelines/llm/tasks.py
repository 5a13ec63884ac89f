"""What a model is for: to write, or to make vectors of texts (vLLM: pooling)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POOLS = {"generate": False, "embed": True, "embedding": True, "encode": True}  # by the name of a task
MODULES = "modules.json"  # sentence-transformers writes it beside a checkpoint that embeds
WRITES = "LMHeadModel"
EMBEDS = ("ForMaskedLM", "ForPreTraining", "Model")  # how the names of such architectures end, but for WRITES
CLASSIFIES = "ForSequenceClassification"
POOLING_NO_EFFECT = {  # accepted by models that make vectors, with the reason why they change nothing
    "max_num_seqs": "max_num_batched_tokens is what bounds a batch of texts",
    "block_size": "embeddings need no KV cache",
    "enable_prefix_caching": "embeddings need no KV cache",
    "kv_cache_dtype": "embeddings need no KV cache",
    "enable_lora": "adapters of embedding models are not supported",
    "enable_prompt_adapter": "adapters of embedding models are not supported",
}
POOLING_ONLY: Mapping[str, tuple[object, ...]] = {  # what can be given to them
    "tensor_parallel_size": (1,),
    "quantization": (None,),
    "cpu_offload_gb": (0,),
}


def is_for_pooling(task: str, model: str, revision: str | None) -> bool:
    """Whether the LLM is to make vectors.

    For the task `auto` the checkpoint's files say so: an encoder, a decoder without its head, or what
    sentence-transformers has saved. Files that are not there say nothing: whoever loads the model says what is wrong
    with it. ValueError for one that tells classes, such as a cross-encoder.
    """
    if task != "auto":
        return POOLS[task]
    config = _read(model, "config.json", revision)
    if not isinstance(config, Mapping):
        return False
    architecture = _architecture(config)
    if architecture.endswith(CLASSIFIES):
        raise ValueError(
            f"model = {model!r}: {architecture} tells classes; cross-encoders and classifiers cannot be had, "
            'task="embed" makes vectors with what is below its head'
        )
    if _read(model, MODULES, revision) is not None:
        return True
    embeds = architecture.endswith(EMBEDS) and not architecture.endswith(WRITES)
    return embeds and not config.get("is_encoder_decoder")


def _architecture(config: Mapping[str, Any]) -> str:
    """The class that a checkpoint was saved from, empty if it does not say."""
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _read(model: str, name: str, revision: str | None) -> Any:
    """A file of a checkpoint, None for one that is not there or is no JSON; without transformers, which is slow."""
    folder = Path(model).expanduser()
    try:
        path = folder / name if folder.is_dir() else _on_the_hub(model, name, revision)
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _on_the_hub(model: str, name: str, revision: str | None) -> Path:
    """From the cache if it is there, or known not to exist: what a model is for does not change."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # half a second; a folder does not need it

    known = try_to_load_from_cache(model, name, revision=revision)
    if known is None:
        return Path(hf_hub_download(model, name, revision=revision))
    if not isinstance(known, str):
        raise FileNotFoundError(name)
    return Path(known)
