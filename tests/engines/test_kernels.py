"""The compiled operations against torch's own, and the engine with and without them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear, silu

from max_engines.attention import Attention, AttentionStep, PagedAttentionError, Pieces
from max_engines.compiled import open_library
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.kernels import RowKernels, kernels_for, panelled_weight, rows, tiled_weight
from max_engines.kv_cache import KVCache, KVShape
from max_engines.loading import load_model
from max_engines.masks import BlockMasks
from tests.engines.tiny_models import generate, prompts, save_checkpoint, start

CPU = torch.device("cpu")
TYPES = st.sampled_from([torch.float32, torch.bfloat16])
WIDTHS = st.integers(1, 9).map(lambda count: 16 * count)
SEEDS = st.integers(0, 2**32 - 1)
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


def kernels(dtype: torch.dtype) -> RowKernels:
    found = kernels_for(dtype, CPU)
    assert found is not None, "there is a compiler, but maxpipe was installed without it: install it again"
    return found


def random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape).to(dtype)


def same(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-5 if found.dtype == torch.float32 else 0.02
    torch.testing.assert_close(found.float(), expected.float(), atol=tolerance, rtol=tolerance)


@needs_compiler
@settings(deadline=None)
@given(dtype=TYPES, count=st.integers(1, 5), width=WIDTHS, adds=st.booleans(), seed=SEEDS)
def test_the_norm_of_a_sum(dtype: torch.dtype, count: int, width: int, adds: bool, seed: int) -> None:
    torch.manual_seed(seed)
    hidden, update, weight = (random(*shape, dtype=dtype) for shape in ((count, width), (count, width), (width,)))
    expected = hidden + update if adds else hidden.clone()
    found = kernels(dtype).add_norm(hidden, update if adds else None, weight, 1e-5)
    assert torch.equal(hidden, expected)
    same(found, torch.rms_norm(expected.float(), (width,), weight.float(), 1e-5))


@needs_compiler
@settings(deadline=None)
@given(dtype=TYPES, count=st.integers(1, 5), width=WIDTHS, scale=st.sampled_from([0.01, 1.0, 50.0, 1e30]), seed=SEEDS)
def test_the_gate(dtype: torch.dtype, count: int, width: int, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    gate_up = random(count, 2 * width, dtype=dtype) * scale
    gate, up = gate_up.float().chunk(2, -1)
    same(kernels(dtype).gate(gate_up), silu(gate) * up)


@needs_compiler
@settings(deadline=None)
@given(
    dtype=TYPES,
    heads=st.sampled_from([(1, 1), (2, 1), (3, 3), (4, 2), (7, 1), (12, 2)]),
    width=WIDTHS,
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    counts=st.lists(st.integers(1, 11), min_size=4, max_size=4),
    scattered=st.integers(1, 4),
    window=st.sampled_from([None, 1, 16, 33]),
    softcap=st.sampled_from([None, 5.0]),
    seed=SEEDS,
)
def test_attention_over_scattered_keys(
    dtype: torch.dtype,
    heads: tuple[int, int],
    width: int,
    lengths: list[int],
    counts: list[int],
    scattered: int,
    window: int | None,
    softcap: float | None,
    seed: int,
) -> None:
    """Some sequences' last tokens together, by the plain formula; and each alone, to the last bit the same."""
    torch.manual_seed(seed)
    query_heads, kv_heads = heads
    counts = [min(count, length) for count, length in zip(counts, lengths, strict=False)]
    store = torch.full((len(lengths) * 80 * 4, 2 * kv_heads, width), torch.nan, dtype=dtype)  # the rest is not read
    query = random(sum(counts), query_heads, width, dtype=dtype)
    pieces: list[list[int]] = []
    runs: list[list[int]] = []
    expected: list[Tensor] = []
    one_by_one: list[tuple[list[int], list[list[int]]]] = []
    for number, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        slots: list[int] = []
        own: list[list[int]] = []
        for place, part in enumerate(torch.arange(length).tensor_split(scattered)):
            if len(part):
                own.append([(place * len(lengths) + number) * 80, len(part)])
                slots.extend(range(own[-1][0], sum(own[-1])))
        pieces.append([count, len(own), length - count + 1])
        runs.extend(own)
        store[slots] = random(length, 2 * kv_heads, width, dtype=dtype)
        for last in range(length - count + 1, length + 1):
            seen = store[slots[:last] if window is None else slots[:last][-window:]].float().transpose(0, 1)
            keys, values = (part.repeat_interleave(query_heads // kv_heads, 0) for part in seen.chunk(2))
            scores = query[len(expected), :, None].float() @ keys.mT * 0.3
            if softcap is not None:
                scores = torch.tanh(scores / softcap) * softcap
            expected.append((scores.softmax(-1) @ values)[:, 0])
            one_by_one.append(([1, len(own), last], own))
    found = torch.full((len(query) + 1, query_heads, width), 7, dtype=dtype)
    attend, options = kernels(dtype).attend, (window, 0.3, softcap)
    attend(query, found, store, torch.tensor(pieces), torch.tensor(runs), *options)
    same(found[:-1], torch.stack(expected))
    assert bool((found[-1] == 7).all())
    for row, (piece, own) in enumerate(one_by_one):
        alone = query.new_empty(1, query_heads, width)
        attend(query[row : row + 1], alone, store, torch.tensor([piece]), torch.tensor(own), *options)
        assert torch.equal(alone[0], found[row])


@needs_compiler
@settings(deadline=None)
@given(dtype=TYPES, columns=st.integers(1, 9).map(lambda count: 16 * count), data=st.data())
def test_the_highest_is_the_first_of_equals(dtype: torch.dtype, columns: int, data: st.DataObject) -> None:
    few = st.sampled_from([0.0, 1.0, -1.0, 2.0, float("-inf")])
    values = data.draw(st.lists(st.lists(few, min_size=columns, max_size=columns), min_size=1, max_size=3))
    scores = torch.tensor(values, dtype=dtype)
    best, where = kernels(dtype).highest(scores)
    assert torch.equal(best, scores.float().amax(1))
    assert where.tolist() == [row.index(max(row)) for row in values]


@needs_compiler
@pytest.mark.parametrize("place", [0, 15, 16, 63])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_not_a_number_is_the_highest_of_its_row_alone(dtype: torch.dtype, place: int) -> None:
    scores = torch.zeros(3, 64, dtype=dtype)
    scores[1, place] = torch.nan
    best, _ = kernels(dtype).highest(scores)
    assert best.isnan().tolist() == [False, True, False]


@needs_compiler
def test_the_highest_whatever_the_process_takes_for_its_default() -> None:
    scores = random(5000, 16, dtype=torch.float32)
    torch.set_default_dtype(torch.bfloat16)  # as transformers does while it loads a model
    try:
        best, _ = kernels(torch.float32).highest(scores)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(best, scores.amax(1))


@needs_compiler
def test_attention_of_queries_that_lie_otherwise() -> None:
    query = random(2, 16, 4, dtype=torch.float32).transpose(1, 2)
    store = random(16, 2, 16, dtype=torch.float32)
    shape = KVShape(1, 1, 16, torch.float32)
    cache = KVCache(shape, 1, 16, CPU)
    cache.write(0, torch.arange(16), store)
    two = Pieces(kernels(torch.float32), 2, torch.tensor([[1, 1, 9], [1, 1, 5]]), torch.tensor([[0, 16]] * 2), 9)
    step = AttentionStep(cache, BlockMasks(16, torch.float32, CPU), torch.arange(2), [], two)
    attention = Attention(0, None, None)
    assert torch.equal(attention(query, step), attention(query.contiguous(), step))
    with pytest.raises(PagedAttentionError, match="bfloat16"):
        attention(query.bfloat16(), step)


@needs_compiler
@settings(deadline=None)
@given(
    outputs=st.integers(1, 130),
    depth=st.sampled_from([1, 32, 100, 704]),
    count=st.integers(0, 130),
    biased=st.booleans(),
    seed=SEEDS,
)
def test_products_by_panels(outputs: int, depth: int, count: int, biased: bool, seed: int) -> None:
    """Of two joined layers; a row alone, and each in a smaller batch, to the last bit the same."""
    torch.manual_seed(seed)
    parts = [random(size, depth, dtype=torch.float32) for size in (outputs, 16)]
    bias = random(outputs + 16, dtype=torch.float32) if biased else None
    values = random(count, depth, dtype=torch.float32)
    weight = panelled_weight(parts, bias)
    assert weight is not None
    found = weight.multiply(values)
    torch.testing.assert_close(found, linear(values, torch.cat(parts), bias), atol=1e-5 * depth, rtol=1e-4)
    for first, last in ((0, 1), (count - 1, count), (count // 3, count), (0, count // 2)):
        first = max(first, 0)
        assert torch.equal(weight.multiply(values[first:last]), found[first:last])


@pytest.mark.skipif(not torch.cpu.get_capabilities().get("amx_bf16"), reason="a processor without tile registers")
@needs_compiler
@settings(deadline=None)
@given(
    outputs=st.integers(1, 130),
    depth=st.sampled_from([32, 64, 160]),
    count=st.sampled_from([1, 2, 15, 16, 17, 32, 33, 48, 100]),
    biased=st.booleans(),
    seed=SEEDS,
)
def test_products_by_tiles(outputs: int, depth: int, count: int, biased: bool, seed: int) -> None:
    torch.manual_seed(seed)
    parts = [random(outputs, depth, dtype=torch.bfloat16), random(16, depth, dtype=torch.bfloat16)]
    bias = random(outputs + 16, dtype=torch.bfloat16) if biased else None
    values = random(count, depth, dtype=torch.bfloat16)
    weight = tiled_weight(parts, bias)
    assert weight is not None
    expected = linear(values.float(), torch.cat(parts).float(), None if bias is None else bias.float())
    found = weight.multiply(values)
    torch.testing.assert_close(found.float(), expected, atol=0.02 * depth**0.5, rtol=0.02)
    assert torch.equal(weight.multiply(values[-1:]), found[-1:]), "a row's product depends on the others"


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral-window", "gemma2"])
def test_the_engine_says_the_same_with_and_without(
    kind: str, tmp_path: Path, without_compiled: Callable[[], None]
) -> None:
    path = save_checkpoint(tmp_path, kind, vocab_size=160)
    texts = prompts(12)

    def said() -> list[tuple[int, ...]]:
        engine = Engine(load_model(path, dtype="bfloat16"), EngineConfig(max_batch=8, num_blocks=128))
        return generate(engine, [start(text, max_new_tokens=10) for text in texts])

    compiled = said()
    without_compiled()
    with pytest.warns(UserWarning, match=r"install a C\+\+ compiler"):
        assert kernels_for(torch.bfloat16, CPU) is None
    same_ones = sum(one == other for one, other in zip(said(), compiled, strict=True))
    assert same_ones >= len(texts) // 2, "in bfloat16 a tie may go either way now and then, but not as often as that"


@needs_compiler
def test_a_long_sequence_beside_a_short_prompt(tmp_path: Path) -> None:
    """The table of positions reaches as far as the longest, also in a step whose only group is short."""
    path = save_checkpoint(tmp_path, "llama", max_position_embeddings=2048)
    engine = Engine(load_model(path, dtype="bfloat16"), EngineConfig(max_batch=32, num_blocks=256))
    long, *short = (start([5] * count, max_new_tokens=20) for count in (1020, *range(5, 30)))
    tables: set[int] = set()
    original = RowKernels.rotate_store

    def watched(self: RowKernels, *given: Any) -> None:
        table, positions = given[3], given[4]
        assert int(positions.max()) < table.shape[0]
        tables.add(table.shape[0])
        original(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowKernels, "rotate_store", watched)
        said = generate(engine, [long, *short], {index: index for index in range(26)})  # a prompt in every step
    assert [len(tokens) for tokens in said] == [20] * 26
    assert tables == {1024, 2048}


@needs_compiler
def test_the_trial_at_the_start_sees_decode_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_checkpoint(tmp_path, "llama")
    monkeypatch.setattr(RowKernels, "attend", lambda self, query, result, *others: result.fill_(3))
    with pytest.raises(ValueError, match="gave other scores than transformers"):
        Engine(load_model(path, dtype="bfloat16"), EngineConfig(max_batch=4, num_blocks=16))


def test_a_library_of_another_version_is_not_used(tmp_path: Path) -> None:
    made = next(rows.SOURCE.parent.glob("rows-*.so"), None)
    if made is None:
        pytest.skip("nothing was compiled")
    shutil.copy(made, tmp_path)
    other = tmp_path / "rows.cpp"
    other.write_text("// something else")
    with pytest.warns(UserWarning, match="install maxpipe again"):
        assert open_library(other, made.stem.removeprefix("rows-")) is None
