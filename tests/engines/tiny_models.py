"""Tiny random checkpoints of real architectures, and how the tests run engines."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel

from max_engines.loading import LoadedModel, load_model
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenConstraint, TokenDelta, TokenGenerator
from max_interfaces.sampling import SamplingParams

Params: TypeAlias = dict[str, Any]  # fields of SamplingParams
VOCAB = 150  # no multiple of 32: the sampler has columns to add
CONTEXT = 256

# Widths are multiples of 32, torch's vector loops: see `test_invariance`.
SMALL: dict[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,  # scores far apart, so that the likeliest token is no matter of rounding
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# What the older configurations have in their place.
PLAIN: dict[str, object] = {
    "vocab_size": VOCAB,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 64}
ARCHITECTURES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaConfig", SMALL),  # grouped queries
    "llama-multi-head": ("LlamaConfig", {**SMALL, "num_key_value_heads": 4, "tie_word_embeddings": True}),
    "llama-multi-query": ("LlamaConfig", {**SMALL, "num_key_value_heads": 1}),
    "qwen2": ("Qwen2Config", SMALL),
    "qwen2-mixed-windows": (
        "Qwen2Config",
        {**SMALL, "use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3Config", SMALL),
    "mistral-window": ("MistralConfig", {**SMALL, "sliding_window": 10}),
    "gemma": ("GemmaConfig", SMALL),
    "gemma2": ("Gemma2Config", {**SMALL, "sliding_window": 10, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3TextConfig", {**SMALL, "sliding_window": 10, "query_pre_attn_scalar": 16}),
    "phi3-window": ("Phi3Config", {**SMALL, "sliding_window": 10, "partial_rotary_factor": 0.5}),
    "mixtral": ("MixtralConfig", {**SMALL, **EXPERTS}),
    "qwen3-moe": ("Qwen3MoeConfig", {**SMALL, **EXPERTS}),
    "starcoder2": ("Starcoder2Config", SMALL),
    "gpt2": ("GPT2Config", PLAIN),
    "gpt-bigcode": ("GPTBigCodeConfig", {**PLAIN, "multi_query": True}),
    "gpt-neox": ("GPTNeoXConfig", {**PLAIN, "intermediate_size": 96, "rotary_pct": 0.25}),
    "opt": ("OPTConfig", {**PLAIN, "ffn_dim": 96, "word_embed_proj_dim": 64}),
    "olmo2": ("Olmo2Config", SMALL),
    "cohere2": ("Cohere2Config", {**SMALL, "sliding_window": 10}),
    "granite": ("GraniteConfig", {**SMALL, "attention_multiplier": 0.2, "residual_multiplier": 0.5}),
}

_SCALED = {"vocab_size": VOCAB, "num_hidden_layers": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
# The published configurations, with fewer layers, heads and words; head_dim, ratios and everything else are theirs.
PUBLISHED: dict[str, tuple[str, dict[str, object]]] = {
    "gemma-2-2b-it": (
        "Gemma2Config",
        {
            **_SCALED,
            "hidden_size": 288,
            "intermediate_size": 1152,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "max_position_embeddings": 8192,
            "sliding_window": 4096,
            "query_pre_attn_scalar": 256,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "rope_theta": 10_000.0,
            "hidden_activation": "gelu_pytorch_tanh",
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
        },
    ),
    "llama-3.1-8b": (
        "LlamaConfig",
        {
            **_SCALED,
            "hidden_size": 512,
            "intermediate_size": 1792,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 128,
            "max_position_embeddings": 131_072,
            "rope_theta": 500_000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.1,
        },
    ),
    "phi-3-mini-4k": (
        "Phi3Config",
        {
            **_SCALED,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "sliding_window": 2047,
            "rope_theta": 10_000.0,
            "rope_scaling": None,
            "rms_norm_eps": 1e-5,
            "initializer_range": 0.2,
        },
    ),
    "qwen2.5-0.5b": (
        "Qwen2Config",
        {
            **_SCALED,
            "hidden_size": 448,
            "intermediate_size": 2432,
            "num_attention_heads": 7,
            "num_key_value_heads": 1,
            "max_position_embeddings": 32_768,
            "sliding_window": 32_768,
            "use_sliding_window": False,
            "max_window_layers": 21,
            "rope_theta": 1_000_000.0,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": True,
            "initializer_range": 0.1,
        },
    ),
}


def save_checkpoint(folder: Path, architecture: str, **changes: object) -> Path:
    """A random checkpoint; the same architecture and changes give the same weights."""
    name, options = {**ARCHITECTURES, **PUBLISHED}[architecture]
    return save_model(folder, name, {**options, **changes})


def save_model(folder: Path, config_name: str, options: Mapping[str, object]) -> Path:
    """A random checkpoint of any of transformers' configurations."""
    config: PreTrainedConfig = getattr(transformers, config_name)(**options)
    factory = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    torch.manual_seed(0)
    module: PreTrainedModel = factory.from_config(config)  # type: ignore[no-untyped-call]
    if config.tie_word_embeddings:  # it would drown the layers, and the model only say its last token again
        module.get_input_embeddings().get_parameter("weight").data.mul_(0.05)
    module.save_pretrained(folder)
    return folder


def load(folder: Path) -> LoadedModel:
    return load_model(folder, dtype="float32")


def start(
    prompt: Sequence[int],
    *,
    seed: int = 0,
    constraint: TokenConstraint | None = None,
    accepted: Sequence[int] = (),
    eos: Iterable[int] = (),
    **params: Any,
) -> SequenceStart:
    """A sequence with a fresh id; greedy and of 20 tokens unless `params` say otherwise."""
    return SequenceStart(
        RequestID(),
        tuple(prompt),
        SamplingParams(**{"temperature": 0.0, "max_new_tokens": 20, **params}),
        seed=seed,
        constraint=constraint,
        accepted=tuple(accepted),
        eos_token_ids=frozenset(eos),
    )


def again(first: SequenceStart, accepted: Sequence[int] = ()) -> SequenceStart:
    """The same sequence under another id, perhaps with tokens that were generated before."""
    return replace(first, request_id=RequestID(), accepted=tuple(accepted))


def prompts(count: int, longest: int = 60, seed: int = 7) -> list[list[int]]:
    """Random prompts of 1 to `longest` tokens."""
    source = random.Random(seed)
    return [[source.randrange(3, VOCAB) for _ in range(source.randint(1, longest))] for _ in range(count)]


def run(
    engine: TokenGenerator, starts: Sequence[SequenceStart], join: Mapping[int, int] | None = None
) -> list[list[TokenDelta]]:
    """All that the engine says of each sequence; number i joins at step `join[i]`, and leaves when it is done."""
    said: dict[RequestID, list[TokenDelta]] = {s.request_id: [] for s in starts}
    waiting = {s.request_id: (0 if join is None else join[i], s) for i, s in enumerate(starts)}
    active: set[RequestID] = set()
    step = 0
    while active or waiting:
        for request_id, (when, sequence) in list(waiting.items()):
            if when <= step:
                engine.add(sequence)
                active.add(request_id)
                del waiting[request_id]
        for request_id, delta in engine.step(active).items():
            said[request_id].append(delta)
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
        step += 1
        if step > 5000:
            raise RuntimeError(f"no end: {len(active)} sequences are still active")
    return [said[s.request_id] for s in starts]


def generate(
    engine: TokenGenerator, starts: Sequence[SequenceStart], join: Mapping[int, int] | None = None
) -> list[tuple[int, ...]]:
    """The new tokens of each sequence, which are run as `run` does."""
    return [tuple(token for delta in deltas for token in delta.tokens) for deltas in run(engine, starts, join)]


def plain_greedy(folder: Path, texts: Sequence[Sequence[int]], count: int) -> list[tuple[int, ...]]:
    """What transformers' own `generate` says to each of `texts`, greedily and past any end."""
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    module.generation_config.eos_token_id = None
    said = []
    for text in texts:
        ids = torch.tensor([list(text)])
        options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "max_new_tokens": count}
        output: torch.Tensor = module.generate(ids, **options)  # type: ignore[operator]
        said.append(tuple(output[0, len(text) :].tolist()))
    return said
