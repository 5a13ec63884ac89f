"""Tiny random checkpoints of real architectures, and how the tests run engines."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from max_engines.loading import LoadedModel, load_model
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenConstraint, TokenGenerator
from max_interfaces.sampling import SamplingParams

Params: TypeAlias = dict[str, Any]  # fields of SamplingParams
VOCAB = 150  # no multiple of 32: the sampler has columns to add
CONTEXT = 256

# Widths are multiples of 32, torch's vector loops: see `test_invariance`.
SMALL = {
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
ARCHITECTURES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaConfig", {}),
    "llama-multi-head": ("LlamaConfig", {"num_key_value_heads": 4, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {}),
    "mistral-window": ("MistralConfig", {"sliding_window": 10}),
    "gemma": ("GemmaConfig", {}),
    "gemma2": ("Gemma2Config", {"sliding_window": 10, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3TextConfig", {"sliding_window": 10, "query_pre_attn_scalar": 16}),
}


def save_checkpoint(folder: Path, architecture: str, **changes: object) -> Path:
    """A random checkpoint; the same architecture and changes give the same weights."""
    name, own = ARCHITECTURES[architecture]
    config: PreTrainedConfig = getattr(transformers, name)(**{**SMALL, **own, **changes})
    torch.manual_seed(0)
    module: PreTrainedModel = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
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


def generate(
    engine: TokenGenerator, starts: Sequence[SequenceStart], join: Mapping[int, int] | None = None
) -> list[tuple[int, ...]]:
    """The new tokens of each sequence; number i joins at step `join[i]`, and leaves when it is done."""
    tokens: dict[RequestID, tuple[int, ...]] = {s.request_id: () for s in starts}
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
            tokens[request_id] += delta.tokens
            if delta.status.is_done:
                active.remove(request_id)
                engine.release(request_id)
        step += 1
        if step > 5000:
            raise RuntimeError(f"no end: {len(active)} sequences are still active")
    return [tokens[s.request_id] for s in starts]


def plain_greedy(folder: Path, prompt: Sequence[int], count: int) -> tuple[int, ...]:
    """What transformers' own `generate` says, greedily and past any end."""
    module: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([list(prompt)])
    output: torch.Tensor = module.generate(ids, do_sample=False, max_new_tokens=count, eos_token_id=-1)  # type: ignore[operator]
    return tuple(output[0, len(prompt) :].tolist())
