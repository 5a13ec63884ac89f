"""Tiny random checkpoints of models that embed texts, with a tokenizer, as folders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from max_pipelines.config import Config, ModelConfig, PipelineConfig, WorkersConfig
from tests.tiny_text import BEGIN, END, PAD, make_tokenizer

VOCAB, CONTEXT = 408, 128
COMMON: dict[str, object] = {"vocab_size": VOCAB, "pad_token_id": PAD, "bos_token_id": BEGIN, "eos_token_id": END}
WIDE: dict[str, object] = {
    **COMMON, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT, "initializer_range": 0.2,
}  # fmt: skip
DECODER = {**WIDE, "num_key_value_heads": 2}
ENCODERS: Mapping[str, tuple[str, dict[str, object]]] = {
    "bert": ("BertConfig", WIDE),
    "roberta": ("RobertaConfig", {**WIDE, "max_position_embeddings": CONTEXT + 1}),
    "xlm-roberta": ("XLMRobertaConfig", {**WIDE, "max_position_embeddings": CONTEXT + 1}),
    "distilbert": (
        "DistilBertConfig",
        {**COMMON, "dim": 64, "hidden_dim": 96, "n_layers": 2, "n_heads": 4, "max_position_embeddings": CONTEXT},
    ),
    "mpnet": ("MPNetConfig", {**WIDE, "max_position_embeddings": CONTEXT + 2, "pad_token_id": 1}),
    "modernbert": ("ModernBertConfig", {**WIDE, "cls_token_id": BEGIN, "sep_token_id": END}),
    "llama": ("LlamaConfig", DECODER),
    "qwen3": ("Qwen3Config", {**DECODER, "head_dim": 16}),
    "gemma2": ("Gemma2Config", {**DECODER, "head_dim": 16, "sliding_window": 16}),
    "gpt2": ("GPT2Config", {**COMMON, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}),
}
DECODERS = ("llama", "qwen3", "gemma2", "gpt2")


def make_encoder(folder: Path, kind: str, pooling: str | None = None, *, normalize: bool = True) -> Path:
    """Write model and tokenizer; with `pooling`, also the files of sentence-transformers."""
    name, options = ENCODERS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, name)(**options)
    factory = AutoModelForCausalLM if kind in DECODERS else AutoModelForMaskedLM
    factory.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", BEGIN), ("</s>", END)]
    )
    tokenizer.save_pretrained(folder)
    if pooling is not None:
        kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        modules = [
            {
                "idx": at,
                "name": str(at),
                "path": f"{at}_{kind}" if at else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for at, kind in enumerate(kinds)
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64, pooling: True}))
    return folder


def plain(folder: Path) -> PreTrainedModel:
    """The same model, as transformers loads it."""
    model: PreTrainedModel = AutoModel.from_pretrained(folder, dtype=torch.float32).train(False)
    return model


def serving(folder: Path, **workers: object) -> Config:
    """The config that serves it."""
    return Config(
        model=ModelConfig(name="tiny", path=str(folder)),
        pipeline=PipelineConfig(kind="embeddings"),
        workers=WorkersConfig(**workers),  # type: ignore[arg-type]
        http=None,
    )
