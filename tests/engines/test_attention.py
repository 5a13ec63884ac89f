"""Paged attention and the fused layer, against the plain formula and transformers' own layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from max_engines import attention
from max_engines.attention import Attention, AttentionStep, Group, PagedAttentionError, paged_attention
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.fused_decoder import fused_decoder
from max_engines.kv_cache import KVCache, KVShape
from max_engines.masks import BlockMasks, Span
from tests.engines.tiny_models import again, generate, load, prompts, start

CPU = torch.device("cpu")
BLOCK = 4
TABLES = {"side by side": [3, 4, 5, 6], "scattered": [6, 1, 2, 0]}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("window", [None, 3, 5])
@pytest.mark.parametrize("softcap", [None, 4.0])
@pytest.mark.parametrize("first", [0, 6, 13])
def test_attention_is_the_plain_formula(table: str, window: int | None, softcap: float | None, first: int) -> None:
    random = torch.Generator().manual_seed(first)
    length, heads, kv_heads, width = 14, 4, 2, 8
    blocks = TABLES[table]
    cache = KVCache(KVShape(2, kv_heads, width, torch.float32), 8, BLOCK, CPU)
    keys, values = (torch.randn(length, kv_heads, width, generator=random) for _ in range(2))
    query = torch.randn(length - first, heads, width, generator=random)
    slots = torch.tensor([blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(length)])
    both = torch.cat((keys, values), 1)
    cache.write(1, slots[:first], both[:first])
    groups = []
    for begin in range(first // BLOCK * BLOCK, length, BLOCK):
        one, last = max(begin, first), min(begin + BLOCK, length)
        view = cache.table(blocks[: begin // BLOCK + 1])
        span = Span(tuple(range(one, last)), last - one, begin + BLOCK)
        groups.append(Group(one - first, last - first, view, span))
    step = AttentionStep(cache, BlockMasks(BLOCK, torch.float32, CPU), slots[first:], groups)

    step.store(1, both[first:])
    found = Attention(1, 0.3, window, softcap)(query, step)

    scores = torch.einsum("qhd,khd->hqk", query, keys.repeat_interleave(2, 1)) * 0.3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(first, length)[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    torch.testing.assert_close(found, torch.einsum("hqk,khd->qhd", weights, values.repeat_interleave(2, 1)))


def test_what_another_left_in_a_block_is_not_seen(checkpoint: Callable[[str], Path]) -> None:
    engine = Engine(load(checkpoint("llama")), EngineConfig(max_batch=2, token_budget=16, block_size=8, num_blocks=12))
    sequence = start(prompts(1)[0])
    expected = generate(engine, [again(sequence)])
    cache = engine._runner._cache
    cache._store.fill_(torch.nan)
    stranger = replace(again(sequence), cache_salt="a tenant who shares no prefix")
    assert generate(engine, [stranger]) == expected


def test_an_attention_that_is_not_ours_is_refused() -> None:
    module = nn.Linear(1, 1)
    states = torch.zeros(1, 1, 1, 8)
    with pytest.raises(PagedAttentionError, match="Linear needs an attention of its own"):
        paged_attention(module, states, states, states, None)
    with pytest.raises(PagedAttentionError, match="needs s_aux"):
        paged_attention(module, states, states, states, None, s_aux=states)


@pytest.mark.parametrize(
    ("architecture", "fused"), [("llama", True), ("qwen2", True), ("qwen3", True), ("gemma2", False)]
)
def test_models_are_fused_where_they_are_known(
    architecture: str, fused: bool, checkpoint: Callable[[str], Path]
) -> None:
    model = load(checkpoint(architecture))
    Engine(model)
    decoder = fused_decoder(model.module)
    Engine(model)  # a second one finds it as it is
    assert fused_decoder(model.module) is decoder
    assert (decoder is not None) == fused


def test_an_engine_refuses_a_model_that_it_would_run_wrongly(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(checkpoint("gemma"))
    monkeypatch.setattr(attention, "Attention", lambda layer, scaling, window, softcap: Attention(layer, scaling, 2))
    with pytest.raises(ValueError, match=r"cannot run GemmaForCausalLM .* gave other scores than transformers"):
        Engine(model)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="an engine has tried and refused it"):
        Engine(model)
