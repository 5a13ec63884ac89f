"""The compiled operations against torch's own, and the engine with and without them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention, silu

from max_engines.attention import Attention, AttentionStep, PagedAttentionError, Singles
from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.kernels import RowKernels, kernels_for, library, rows, tiled_weight, tiles
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
    pieces=st.integers(1, 4),
    window=st.sampled_from([None, 1, 16, 33]),
    softcap=st.sampled_from([None, 5.0]),
    seed=SEEDS,
)
def test_attention_over_scattered_keys(
    dtype: torch.dtype,
    heads: tuple[int, int],
    width: int,
    lengths: list[int],
    pieces: int,
    window: int | None,
    softcap: float | None,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    count, (query_heads, kv_heads) = len(lengths), heads
    store = torch.full((count * 80 * 4, 2 * kv_heads, width), torch.nan, dtype=dtype)  # the rest must not be read
    query = random(count, query_heads, width, dtype=dtype)
    offsets, runs, expected = [0], [], []
    for row, length in enumerate(lengths):
        slots: list[int] = []
        for piece, part in enumerate(torch.arange(length).tensor_split(pieces)):
            if len(part):
                runs.append([(piece * count + row) * 80, len(part)])
                slots.extend(range(runs[-1][0], sum(runs[-1])))
        offsets.append(len(runs))
        store[slots] = random(length, 2 * kv_heads, width, dtype=dtype)
        seen = store[slots if window is None else slots[-window:]].float().transpose(0, 1)
        keys, values = (part.repeat_interleave(query_heads // kv_heads, 0) for part in seen.chunk(2))
        if softcap is None:
            expected.append(scaled_dot_product_attention(query[row, :, None].float(), keys, values, scale=0.3)[:, 0])
        else:
            scores = torch.tanh(query[row, :, None].float() @ keys.mT * 0.3 / softcap) * softcap
            expected.append((scores.softmax(-1) @ values)[:, 0])
    found = torch.full((count + 1, query_heads, width), 7, dtype=dtype)
    indices, table = torch.tensor(offsets), torch.tensor(runs)
    kernels(dtype).attend(query, found, store, indices, table, window, 0.3, softcap)
    same(found[:count], torch.stack(expected))
    assert bool((found[count] == 7).all())


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
    singles = Singles(kernels(torch.float32), 2, torch.tensor([0, 1, 2]), torch.tensor([[0, 9], [0, 5]]), 9)
    step = AttentionStep(cache, BlockMasks(16, torch.float32, CPU), torch.arange(2), [], singles)
    attention = Attention(0, None, None)
    assert torch.equal(attention(query, step), attention(query.contiguous(), step))
    with pytest.raises(PagedAttentionError, match="bfloat16"):
        attention(query.bfloat16(), step)


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


@pytest.fixture
def without_compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    def forget() -> None:
        rows._compiled.cache_clear()
        tiles._library.cache_clear()

    def leave_out() -> None:
        for module in (rows, tiles):
            monkeypatch.setattr(module, "open_library", lambda source, variant: None)
        forget()

    yield leave_out
    monkeypatch.undo()
    forget()


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


def test_a_library_of_another_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = next(library.FOLDER.glob("rows-*.so"), None)
    if made is None:
        pytest.skip("nothing was compiled")
    variant = made.stem.removeprefix("rows-")
    shutil.copy(made, tmp_path)
    (tmp_path / "rows.cpp").write_text("// something else")
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    library.open_library.cache_clear()
    with pytest.warns(UserWarning, match="install maxpipe again"):
        assert library.open_library("rows", variant) is None
    library.open_library.cache_clear()
