"""The decoder against the snac package, its causality, its receptive field, and the stages that stream it."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from max_codecs.chunks import ChunkSchedule
from max_codecs.snac.causal import CausalDecoder
from max_codecs.snac.decoder import Decoder, fresh_noise
from max_codecs.snac.noise import CounterNoise, normals
from max_codecs.snac.stages import stages_of
from max_codecs.streaming.decoder import StreamingDecoder
from max_codecs.streaming.receptive_field import ReceptiveField, receptive_field

RATES = [(8, 4, 2), (3, 2, 5), (7, 3), (2, 3, 4)]  # even and odd: the package pads the odd ones unevenly
NO_NOISE = None


@pytest.fixture(scope="module")
def snac_layers() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # snac scripts a function as it is imported
        return importlib.import_module("snac.layers")


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("depthwise", [True, False])
def test_it_is_the_packages_decoder(snac_layers: ModuleType, rates: tuple[int, ...], depthwise: bool) -> None:
    theirs = snac_layers.Decoder(6, 32, list(rates), noise=True, depthwise=depthwise, attn_window_size=None).double()
    ours = Decoder(6, 32, rates, noise=True, depthwise=depthwise).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 6, 9, dtype=torch.float64)
    torch.manual_seed(1)
    expected = theirs(x)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(x, fresh_noise), expected, rtol=0, atol=1e-14)
    theirs.load_state_dict(CausalDecoder(6, 32, rates, noise=True, depthwise=depthwise).double().state_dict())


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("causal", [True, False])
def test_receptive_field_is_what_a_change_reaches(rates: tuple[int, ...], causal: bool) -> None:
    """Change one latent step: exactly the steps that look at it change. Positive weights, so that nothing cancels."""
    decoder = Decoder(2, 16, rates, causal=causal).double()
    for name, parameter in decoder.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        if name.endswith("original0"):
            torch.nn.init.constant_(parameter, 0.5)
    x = torch.zeros(1, 2, 160, dtype=torch.float64)
    changed = x.clone()
    changed[..., 80] = 0.1
    moved = (decoder(changed) - decoder(x)).abs()[0, 0].detach().view(160, -1).amax(1).nonzero().flatten()
    first, last = int(moved[0]), int(moved[-1])
    assert receptive_field(stages_of(decoder.model)) == ReceptiveField(back=last - 80, ahead=80 - first)


def test_receptive_field_of_the_codecs_that_are_served() -> None:
    def frames(rates: tuple[int, ...], causal: bool) -> tuple[int, int]:
        return receptive_field(stages_of(Decoder(2, 32, rates, causal=causal).model)).frames(4)

    assert frames((8, 8, 4, 2), causal=False) == (3, 3)  # SNAC 24 kHz
    assert frames((2, 2, 4, 4, 8), causal=False) == (10, 10)  # the stand-in's, as published
    assert frames((2, 2, 4, 4, 8), causal=True)[1] == 0


@pytest.mark.parametrize("rates", RATES)
def test_a_causal_decoder_never_looks_ahead(rates: tuple[int, ...]) -> None:
    decoder = CausalDecoder(6, 32, rates, depthwise=True).double()
    x = torch.randn(1, 6, 12, dtype=torch.float64)
    changed = x.clone()
    changed[..., 7] += 1
    difference = (decoder(changed) - decoder(x)).abs()[0, 0]
    hop = int(np.prod(rates))
    assert difference.shape == (12 * hop,)
    assert difference[: 7 * hop].max() == 0
    assert difference[7 * hop] > 0


def test_training_reaches_every_parameter() -> None:
    decoder = CausalDecoder(6, 32, (3, 2), noise=True, depthwise=True)
    decoder(torch.randn(2, 6, 8), fresh_noise).square().sum().backward()
    assert all(parameter.grad is not None for parameter in decoder.parameters())


def test_attention_is_refused() -> None:
    with pytest.raises(ValueError, match="attn_window_size=32"):
        CausalDecoder(6, 32, (3, 2), attn_window_size=32)
    with pytest.raises(ValueError, match="halve once"):
        Decoder(6, 30, (3, 2))


def streamed(decoder: Decoder, x: Tensor, sizes: tuple[int, ...], noise: CounterNoise | None) -> Tensor:
    stream = StreamingDecoder(stages_of(decoder.model)).open(0, noise)
    rows = x[0].t()
    parts = [stream.push(rows[part]) for part in ChunkSchedule(sizes).slices(len(rows))]
    return torch.cat([*parts, stream.push(rows[:0], last=True)])


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("depthwise", [True, False])
def test_stages_equal_the_whole(rates: tuple[int, ...], causal: bool, depthwise: bool) -> None:
    torch.manual_seed(2)
    decoder = Decoder(6, 32, rates, noise=True, depthwise=depthwise, causal=causal).double()
    x = torch.randn(1, 6, 40, dtype=torch.float64)
    for noise in (None, CounterNoise(3)):
        with torch.inference_mode():
            whole = decoder(x, noise).flatten()
        for sizes in ((1,), (1, 2, 4, 8), (7,), (40,)):
            torch.testing.assert_close(streamed(decoder, x, sizes, noise), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("depthwise", [True, False])
def test_samples_from_any_number_on_are_those_of_the_whole_stream(
    rates: tuple[int, ...], causal: bool, depthwise: bool
) -> None:
    """What is left out is what no such sample depends on: also where a stream begins amid a sound, too late."""
    torch.manual_seed(2)
    whole_decoder = Decoder(6, 32, rates, noise=True, depthwise=depthwise, causal=causal).double()
    decoder = StreamingDecoder(stages_of(whole_decoder.model))
    rows, hop, noise = torch.randn(24, 6, dtype=torch.float64), int(np.prod(rates)), CounterNoise(3)

    def given(latent: int, sample: int, size: int) -> Tensor:
        stream = decoder.open(latent, noise, sample)
        parts = [stream.push(rows[start : start + size]) for start in range(0, 24, size)]
        return torch.cat([*parts, stream.push(rows[:0], last=True)])

    for latent in (0, 5):
        first = latent * hop
        whole = given(latent, first, 24)
        for sample in (first + 1, first + 7 * hop, first + 15 * hop + 1, first + 23 * hop - 1, first + 24 * hop):
            for size in (1, 5, 24):
                torch.testing.assert_close(given(latent, sample, size), whole[sample - first :], rtol=0, atol=1e-12)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_the_shortest_sounds_are_whole(causal: bool, length: int) -> None:
    decoder = Decoder(6, 32, (3, 2), causal=causal).double()
    x = torch.randn(1, 6, length, dtype=torch.float64)
    expected = decoder(x).flatten() if length else torch.zeros(0, dtype=torch.float64)
    torch.testing.assert_close(streamed(decoder, x, (1,), NO_NOISE), expected.detach(), rtol=0, atol=1e-12)


def test_noise_is_keyed_by_seed_layer_and_sample() -> None:
    whole = normals(5, 1, 0, 1000)
    torch.testing.assert_close(torch.cat([normals(5, 1, 0, 333), normals(5, 1, 333, 667)]), whole, rtol=0, atol=0)
    assert not torch.equal(normals(6, 1, 0, 1000), whole)
    assert not torch.equal(normals(5, 2, 0, 1000), whole)
    assert torch.equal(normals(5 + 2**64, 1, 0, 10), whole[:10])
    assert torch.isfinite(normals(-1, 0, 2**62, 100)).all()


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    noise = torch.stack([normals(seed, layer, 0, 50_000) for seed in (0, 1) for layer in (0, 1)]).double()
    assert noise.mean(1).abs().max() < 0.02
    assert (noise.std(1) - 1).abs().max() < 0.02
    assert ((noise**4).mean(1) - 3).abs().max() < 0.15
    assert (torch.corrcoef(noise) - torch.eye(4)).abs().max() < 0.02
    assert torch.corrcoef(torch.stack([noise[0, 1:], noise[0, :-1]]))[0, 1].abs() < 0.02


def test_noise_is_the_same_for_every_row_and_keeps_the_type() -> None:
    like = torch.zeros(3, 4, 6, dtype=torch.float64)
    noise = CounterNoise(1)(0, 10, like)
    assert (noise.shape, noise.dtype) == ((3, 1, 6), torch.float64)
    assert torch.equal(noise[0], noise[2])
    assert noise[0, 0].float().tolist() == normals(1, 0, 10, 6).tolist()
