"""Linear layers of integers: the same, to the last bit, as with the floats that the integers stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from max_engines import quantized_linear
from max_engines.kernels import multiplies_quantized
from max_engines.linear import Projection
from max_engines.quantized_linear import QuantizedLinear, QuantizedWeight

BITS = st.sampled_from([4, 8])
GROUPS = st.sampled_from([8, 32, 64])
SEEDS = st.integers(0, 2**32 - 1)
needs_kernels = pytest.mark.skipif(
    not multiplies_quantized(torch.float32, torch.device("cpu")), reason="installed without a C++ compiler"
)


def layer(outputs: int, groups: int, group: int, bits: int, bias: bool = True) -> tuple[QuantizedLinear, nn.Linear]:
    """A random layer, and what it stands for, by the formula."""
    half = 2 ** (bits - 1)
    levels = torch.randint(-half, half, (outputs, groups * group), dtype=torch.int8)
    zeros, scales = torch.randint(-half, half, (outputs, groups)), torch.rand(outputs, groups) + 0.1
    plain = nn.Linear(groups * group, outputs, bias)
    grouped = levels.view(outputs, groups, group).float()
    plain.weight.data = ((grouped - zeros[..., None]) * scales[..., None]).flatten(1)
    plain.requires_grad_(False)
    weight = QuantizedWeight.packed(levels, scales, zeros, bits)
    return QuantizedLinear(weight, plain.bias.detach() if bias else None), plain


@needs_kernels
@settings(deadline=None)
@given(
    rows=st.integers(1, 40), outputs=st.integers(1, 100), groups=st.integers(1, 3), group=GROUPS, bits=BITS,
    bias=st.booleans(), seed=SEEDS,
)  # fmt: skip
def test_the_product_is_that_with_the_floats_and_of_each_row_alone(
    rows: int, outputs: int, groups: int, group: int, bits: int, bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    quantized, plain = layer(outputs, groups, group, bits, bias)
    assert torch.equal(quantized.weight, plain.weight)
    values = torch.randn(rows, groups * group)
    found = quantized(values)
    assert torch.equal(found, Projection(plain)(values))
    assert torch.equal(found, torch.cat([quantized(row[None]) for row in values]))


@needs_kernels
@settings(deadline=None)
@given(rows=st.integers(1, 20), outputs=st.integers(1, 100), group=GROUPS, bits=BITS, seed=SEEDS)
def test_in_bfloat16_only_the_result_is_rounded(rows: int, outputs: int, group: int, bits: int, seed: int) -> None:
    torch.manual_seed(seed)
    quantized, _ = layer(outputs, 2, group, bits)
    values = torch.randn(rows, 2 * group).bfloat16()
    assert torch.equal(quantized(values), quantized(values.float()).bfloat16())


@settings(deadline=None)
@given(outputs=st.lists(st.sampled_from([32, 64, 33, 5]), min_size=1, max_size=3), bits=BITS, seed=SEEDS)
def test_layers_that_read_the_same_are_joined_where_their_panels_are_full(
    outputs: list[int], bits: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layers = [layer(count, 2, 32, bits)[0] for count in outputs]
    values = torch.randn(3, 64)
    assert torch.equal(Projection(*layers)(values), torch.cat([one(values) for one in layers], -1))
    full = all(count % 32 == 0 for count in outputs[:-1])
    assert (QuantizedLinear.joined(layers) is not None) == full


def test_layers_with_other_groups_or_bits_are_not_joined() -> None:
    torch.manual_seed(0)
    first = layer(32, 2, 32, 4)[0]
    for other in (layer(32, 1, 64, 4)[0], layer(32, 2, 32, 8)[0]):
        assert QuantizedLinear.joined([first, other]) is None
        values = torch.randn(3, 64)
        assert torch.equal(Projection(first, other)(values), torch.cat((first(values), other(values)), -1))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_the_compiled_product_it_is_much_the_same(
    bits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    quantized, plain = layer(70, 2, 32, bits)
    quantized.bias = plain.bias.to(dtype)
    values = torch.randn(2, 5, 64).to(dtype)
    monkeypatch.setattr(quantized_linear, "multiplies_quantized", lambda *_: False)
    found: Tensor = quantized(values)
    assert (found.shape, found.dtype) == ((2, 5, 70), dtype)
    expected = plain(values.float())
    assert float((found.float() - expected).abs().max() / expected.abs().max()) < (
        1e-5 if dtype.itemsize == 4 else 0.02
    )


@pytest.mark.parametrize(("bits", "group", "share"), [(8, 1024, 0.26), (4, 64, 0.16), (4, 128, 0.145)])
def test_it_takes_as_little_memory_as_it_says(bits: int, group: int, share: float) -> None:
    quantized, plain = layer(1024, 1024 // group, group, bits)
    weight = quantized.quantized
    held = sum(part.untyped_storage().nbytes() for part in (weight.words, weight.scales, weight.zeros))
    assert held == weight.nbytes < share * plain.weight.nbytes
    assert not list(quantized.parameters())
