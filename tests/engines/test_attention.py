"""Paged attention and the fused layer, against the plain formula and transformers' own layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from max_engines.attention import AttentionStep, BlockMasks, PagedAttentionError, Span, attend, paged_attention
from max_engines.engine import Engine, EngineConfig
from max_engines.fused_layer import FusedLayer
from max_engines.kv_cache import KVCache, KVShape
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
    query = torch.randn(1, heads, length - first, width, generator=random)
    slots = torch.tensor([blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(length)])
    cache.write(1, slots[:first], keys[:first], values[:first])
    spans = []
    for begin in range(first // BLOCK * BLOCK, length, BLOCK):
        one, last = max(begin, first), min(begin + BLOCK, length)
        view = cache.view(blocks[: begin // BLOCK + 1])
        spans.append(Span(one - first, last - first, one - begin, view, begin + BLOCK))
    step = AttentionStep(cache, BlockMasks(BLOCK, torch.float32, CPU), slots[first:], spans)

    found = attend(step, 1, query, keys[first:], values[first:], 0.3, window, softcap)

    scores = torch.einsum("hqd,khd->hqk", query[0], keys.repeat_interleave(2, 1)) * 0.3
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(first, length)[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    torch.testing.assert_close(found[0], torch.einsum("hqk,khd->qhd", weights, values.repeat_interleave(2, 1)))


def test_what_another_left_in_a_block_is_not_seen(checkpoint: Callable[[str], Path]) -> None:
    engine = Engine(load(checkpoint("llama")), EngineConfig(max_batch=2, token_budget=16, block_size=8, num_blocks=12))
    sequence = start(prompts(1)[0])
    expected = generate(engine, [again(sequence)])
    cache = engine._runner._cache
    cache._keys.fill_(torch.nan)
    cache._values.fill_(torch.nan)
    assert generate(engine, [again(sequence)]) == expected


def test_an_attention_that_is_not_ours_is_refused() -> None:
    module = nn.Linear(1, 1)
    states = torch.zeros(1, 1, 1, 8)
    with pytest.raises(PagedAttentionError, match="Linear needs an attention of its own"):
        paged_attention(module, states, states, states, None)
    with pytest.raises(PagedAttentionError, match="needs s_aux"):
        paged_attention(module, states, states, states, None, s_aux=states)


@pytest.mark.parametrize(("architecture", "fused"), [("llama", 2), ("qwen2", 2), ("qwen3", 2), ("gemma2", 0)])
def test_layers_are_fused_where_they_are_known(
    architecture: str, fused: int, checkpoint: Callable[[str], Path]
) -> None:
    model = load(checkpoint(architecture))
    Engine(model)
    Engine(model)  # a second one finds it as it is
    assert sum(isinstance(module, FusedLayer) for module in model.module.modules()) == fused


def test_an_engine_refuses_a_model_that_it_would_run_wrongly(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(checkpoint("gemma"))
    reach = BlockMasks.reach
    monkeypatch.setattr(BlockMasks, "reach", lambda masks, span, window: reach(masks, span, 2))
    with pytest.raises(ValueError, match=r"cannot run GemmaForCausalLM .* gave other scores than transformers"):
        Engine(model)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="an engine has tried and refused it"):
        Engine(model)
