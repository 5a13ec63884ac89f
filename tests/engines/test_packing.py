"""Quantised keys and values: what they cost, and how far off a value can be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from max_engines.packing import Packing

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def steps(packing: Packing, rows: Tensor, width: int, group: int) -> Tensor:
    """The scale of every value of `rows`."""
    groups = width // group
    dtype = torch.bfloat16 if packing.unpack(rows).dtype == torch.bfloat16 else torch.float16
    return rows[..., : 2 * groups].view(dtype).float().repeat_interleave(group, -1)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    bits=st.sampled_from([4, 8]),
    shape=st.sampled_from([(64, 64), (64, 16), (128, 32), (20, 20), (256, 64)]),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([0.0, 1e-9, 1e-4, 1.0, 300.0]),
    centre=st.sampled_from([0.0, 1e-3, -7.0, 1000.0]),
)
def test_no_value_is_off_by_more_than_half_a_step(
    seed: int, bits: int, shape: tuple[int, int], dtype: torch.dtype, spread: float, centre: float
) -> None:
    width, group = shape
    packing = Packing(width, bits, group, dtype)
    random = torch.Generator().manual_seed(seed)
    values = (torch.randn(5, 3, width, generator=random) * spread + centre).to(dtype)
    rows = packing.pack(values)
    assert rows.shape == (5, 3, packing.row_bytes) == (5, 3, width * bits // 8 + width // group * 4)
    found = packing.unpack(rows)
    assert found.dtype == dtype
    step = steps(packing, rows, width, group)
    ulp = torch.finfo(dtype).eps * (found.float().abs() + step)  # of the sum, in the type of the result
    assert bool(((found.float() - values.float()).abs() <= step / 2 * (1 + 1e-4) + ulp).all())
    reach = values.float().view(5, 3, -1, group)
    exact = (reach.amax(-1) - reach.amin(-1)).repeat_interleave(group, -1) / (2**bits - 1)
    rounding = torch.finfo(torch.bfloat16 if dtype == torch.bfloat16 else torch.float16).eps
    largest = values.float().abs().amax(-1, keepdim=True)
    assert bool((step <= exact * (1 + rounding) + (largest * rounding + 1e-7) / (2**bits - 1) * 2 + 1e-7).all())


@pytest.mark.parametrize("bits", [4, 8])
def test_a_row_is_packed_the_same_beside_any_others(bits: int) -> None:
    packing = Packing(64, bits, 32, torch.float32)
    values = torch.randn(37, 6, 64, generator=torch.Generator().manual_seed(1))
    rows = packing.pack(values)
    for index in (0, 5, 36):
        assert torch.equal(packing.pack(values[index : index + 1].clone())[0], rows[index])
        assert torch.equal(packing.unpack(rows[index]), packing.unpack(rows)[index])


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_no_number_stays_none_and_what_is_too_large_saturates(dtype: torch.dtype) -> None:
    packing = Packing(32, 8, 16, dtype)
    values = torch.ones(1, 32, dtype=dtype)
    values[0, 3] = torch.nan
    found = packing.unpack(packing.pack(values))
    assert bool(found[0, :16].isnan().all())
    assert bool((found[0, 16:] == 1).all())
    values[0, 3] = 60_000
    assert bool(packing.unpack(packing.pack(values * 1000)).isfinite().all()) == (dtype != torch.float16)


def test_constant_groups_are_exact() -> None:
    packing = Packing(16, 4, 16, torch.float32)
    values = torch.tensor([[2.5], [0.0], [-1024.0]]).expand(3, 16)
    assert torch.equal(packing.unpack(packing.pack(values)), values)


def test_heads_that_cannot_be_cut_so_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"SamplingParams\.kv_group_size = 48: must divide the heads' width of 64"):
        Packing(64, 8, 48, torch.float32)
    with pytest.raises(ValueError, match=r"SamplingParams\.kv_bits = 4: the heads' width of 18 is no multiple of 4"):
        Packing(18, 4, 64, torch.float32)
