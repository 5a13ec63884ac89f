"""A model whose logits are a table, and what vLLM's beam search finds in one, worked out without our code."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import product
from pathlib import Path
from typing import TypeAlias

import torch
from transformers import LlamaConfig, LlamaForCausalLM

Table: TypeAlias = Sequence[Sequence[float]]  # of each token, what may follow it: log probabilities
Found: TypeAlias = list[tuple[tuple[int, ...], float]]  # new ids and sum of log probabilities, the best first
FAR = 1000.0  # beside which what a norm adds to its divisor is nothing


def save_table(folder: Path, table: Table, **options: object) -> Path:
    """A Llama whose logits after a text are `table[last token]`; its size is a multiple of 32, as heads want it.

    The embedding of a token is a unit vector, the layer adds nothing, and the head looks the row up.
    """
    size = len(table)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=256,
        **options,  # type: ignore[arg-type]
    )
    module = LlamaForCausalLM(config)
    with torch.no_grad():
        layer = module.model.layers[0]
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
        module.model.embed_tokens.weight.copy_(FAR * torch.eye(size))
        module.model.norm.weight.fill_(size**-0.5)
        module.lm_head.weight.copy_(torch.tensor(table).T)
    module.save_pretrained(folder)
    return folder


def normal(table: Sequence[Sequence[float]]) -> Table:
    """Any scores as log probabilities."""
    rows: list[list[float]] = torch.tensor(table, dtype=torch.float64).log_softmax(1).tolist()
    return rows


def score(prompt: Sequence[int], text: Sequence[int], total: float, penalty: float, ends: Collection[int]) -> float:
    """The sum by the length of prompt and text, an end not counted."""
    length = len(prompt) + len(text) - (text[-1] in ends)
    return total / math.pow(length, penalty)


def by_vllm(
    table: Table,
    prompt: Sequence[int],
    width: int,
    count: int,
    ends: Collection[int] = (),
    penalty: float = 1.0,
    *,
    ignored: bool = False,
) -> Found:
    """The loop of vLLM's `LLM.beam_search`, over a table."""

    def best(one: tuple[tuple[int, ...], float]) -> float:
        return -score(prompt, one[0], one[1], penalty, ends)

    beams: Found = [((), 0.0)]
    completed: Found = []
    for _ in range(count):
        others: Found = []
        for text, total in beams:
            row = table[text[-1] if text else prompt[-1]]
            for token in sorted(range(len(row)), key=lambda token: -row[token])[: 2 * width]:
                longer = ((*text, token), total + row[token])
                (completed if token in ends and not ignored else others).append(longer)
        others.sort(key=best)
        beams = others[:width]
    everything = [*completed, *beams]
    everything.sort(key=best)
    return everything[:width]


def exhaustive(table: Table, prompt: Sequence[int], ids: Sequence[int], count: int, end: int, penalty: float) -> Found:
    """All texts of `ids` that end with `end`, or have `count` tokens without it, the best first."""
    found: Found = []
    for length in range(1, count + 1):
        for text in product(ids, repeat=length):
            if end in text[:-1] or (text[-1] != end and length < count):
                continue
            pairs = zip((prompt[-1], *text), text, strict=False)
            found.append((text, sum(table[last][token] for last, token in pairs)))
    found.sort(key=lambda one: -score(prompt, one[0], one[1], penalty, {end}))
    return found
