"""Encoders give the very codes that the packages' own give, which the decoders of the same weights take."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DacModel, EncodecModel, MimiModel

from max_codecs.pretrained import encoders
from max_codecs.pretrained.encoders import dac_encoder, encodec_encoder, mimi_encoder
from max_codecs.samples import padded
from max_codecs.slots import columns, depth_first, frames_of
from max_codecs.snac.config import SnacConfig, StackConfig
from max_codecs.snac.encoder import build_encoder, load_encoder
from max_codecs.snac.mel_encoder import MelEncoder
from max_codecs.snac.model import build_model
from max_interfaces.errors import ConfigError
from max_interfaces.protocols import SpeechEncoder
from max_voices.recipe.autoencoder import Autoencoder
from max_voices.recipe.export import export_codec, export_listeners
from max_voices.recipe.sound import Codec
from tests.random_snac import SMALL, random_state
from tests.tiny_codecs import LEVELS, save_dac, save_encodec, save_mimi, tiny_dac, tiny_encodec, tiny_mimi
from tests.tiny_codecs import Codec as AnyCodec

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package's own, of torch.jit
    SNAC: Any = importlib.import_module("snac").SNAC

DEPTHWISE = msgspec.structs.replace(SMALL, depthwise=True, encoder_rates=(3, 2, 4), latent_dim=None, encoder_dim=3)


def sound(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise of changing loudness."""
    chance = np.random.default_rng(seed)
    swell = 0.6 + 0.4 * np.sin(np.arange(count) / 37)
    return (0.5 * swell * chance.standard_normal(count)).astype(np.float32)


def published(config: SnacConfig) -> Any:
    """The snac package's own model, with random weights."""
    fields: dict[str, Any] = msgspec.to_builtins(config)
    del fields["causal"], fields["mel_encoder"], fields["aligner"]  # which are not the package's
    torch.manual_seed(1)
    model = SNAC(**fields)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if name.endswith("alpha"):
                tensor.uniform_(0.5, 1.5)
            elif name.startswith("encoder") or "in_proj" in name:  # so that the sound is what counts
                tensor.mul_(0 if name.endswith("bias") else 2 if name.endswith("original0") else 1)
    return model.eval()


def its_codes(model: Any, samples: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    with torch.inference_mode():
        return [codes[0].numpy() for codes in model.encode(torch.from_numpy(samples)[None, None])]


@pytest.mark.parametrize("config", [SMALL, DEPTHWISE], ids=["small", "depthwise"])
@pytest.mark.parametrize("count", [1, 96, 1000])
def test_snac_codes_are_the_packages(config: SnacConfig, count: int) -> None:
    config = msgspec.structs.replace(config, latent_dim=None)
    model = published(config)
    encoder = build_encoder(config, model.state_dict())
    frames = encoder.encode(sound(count))
    assert (encoder.sample_rate, encoder.codes_per_frame) == (8000, 7)
    assert frames.dtype == np.int64
    levels = [frames[:, places].reshape(-1) for places in columns(depth_first((4, 2, 1)))]
    for got, expected in zip(levels, its_codes(model, sound(count)), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert len(np.unique(frames)) > (1 if count < 200 else 20)


def test_snac_codes_in_another_order() -> None:
    model = published(msgspec.structs.replace(SMALL, latent_dim=None))
    config, state = msgspec.structs.replace(SMALL, latent_dim=None), model.state_dict()
    slots = tuple(reversed(depth_first((4, 2, 1))))
    usual, reversed_ = build_encoder(config, state), build_encoder(config, state, slots=slots)
    np.testing.assert_array_equal(usual.encode(sound(500)), reversed_.encode(sound(500))[:, ::-1])


def test_the_decoder_of_the_same_weights_takes_them() -> None:
    """What is decoded is the package's decode of the package's codes."""
    config = msgspec.structs.replace(SMALL, latent_dim=None, noise=False)
    model = published(config)
    frames = build_encoder(config, model.state_dict()).encode(sound(900))
    ours = build_model(config, model.state_dict()).decode(frames)
    with torch.inference_mode():
        theirs = model.decode([torch.from_numpy(codes)[None] for codes in its_codes(model, sound(900))])
    np.testing.assert_allclose(ours, theirs.flatten().numpy(), rtol=0, atol=1e-5)


def test_snac_in_a_folder(tmp_path: Path) -> None:
    config = msgspec.structs.replace(SMALL, latent_dim=None)
    model = published(config)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, tmp_path / "model.safetensors"
    )
    frames = load_encoder(tmp_path).encode(sound(400))
    np.testing.assert_array_equal(frames, build_encoder(config, model.state_dict()).encode(sound(400)))


def test_weights_without_an_encoder_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(SMALL))
    save_file({name: one.contiguous() for name, one in random_state(SMALL).items()}, tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.safetensors: has no encoder, so this voice can take no samples"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("spoilt", ["encoder.block.0.bias", "quantizer.quantizers.1.in_proj.bias"])
def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path, spoilt: str) -> None:
    config = msgspec.structs.replace(SMALL, latent_dim=None)
    state = {name: tensor.contiguous() for name, tensor in published(config).state_dict().items()}
    save_file({name: one for name, one in state.items() if name != spoilt}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(config))
    with pytest.raises(ConfigError, match=spoilt.partition(".")[0]):
        load_encoder(tmp_path)


# -- a MelEncoder ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A codec and its encoder as the recipe exports them, in half precision, untrained."""
    folder = tmp_path_factory.mktemp("exported")
    torch.manual_seed(3)
    listener, codec = Autoencoder(), Codec()
    codec.quantizer.load_state_dict(listener.quantizer.state_dict())
    export_codec(codec, folder)
    export_listeners(listener, folder)
    return folder


@pytest.mark.parametrize("count", [1, 2048, 30_000])
def test_codes_are_those_that_the_recipe_trains_with(exported: Path, count: int) -> None:
    """Which are in bfloat16 there, for speed alone."""
    encoder, listener = load_encoder(exported), Autoencoder().eval()
    for name, module in (("encoder", listener.encoder), ("model", Codec())):
        weights = {key: tensor.float() for key, tensor in load_file(exported / f"{name}.safetensors").items()}
        module.load_state_dict(weights)
        if isinstance(module, Codec):
            listener.quantizer = module.quantizer
    frames = encoder.encode(sound(count))
    assert (encoder.sample_rate, encoder.codes_per_frame) == (16_000, 7)
    levels = [frames[:, places].reshape(-1) for places in columns(depth_first((4, 2, 1)))]
    with torch.inference_mode():
        given = torch.from_numpy(padded(sound(count), 2048))[None]
        expected = listener.quantizer(listener.encoder(given)).codes
    for got, codes in zip(levels, expected, strict=True):
        np.testing.assert_array_equal(got, codes[0].numpy())
    assert len(np.unique(frames)) > (1 if count < 3000 else 15)


def test_an_encoder_that_is_missing_or_does_not_fit_is_refused_by_name(exported: Path, tmp_path: Path) -> None:
    for path in exported.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = tmp_path / "config.json"
    fields = msgspec.json.decode(config.read_bytes(), type=SnacConfig)
    config.write_bytes(msgspec.json.encode(msgspec.structs.replace(fields, mel_encoder=StackConfig(255, 6))))
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: does not fit config\.json: encoder: size mismatch"):
        load_encoder(tmp_path)
    config.write_bytes(msgspec.json.encode(fields))
    (tmp_path / "encoder.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: cannot read"):
        load_encoder(tmp_path)
    with pytest.raises(ValueError, match="a latent has 24 samples"):
        MelEncoder(8000, 24, 8, 8, 1)


# -- transformers ----------------------------------------------------------------------------------------------------


def encoder_of(model: AnyCodec, slots: list[tuple[int, int]] | None = None) -> SpeechEncoder:
    if isinstance(model, MimiModel):
        return mimi_encoder(model, slots)
    return dac_encoder(model, slots) if isinstance(model, DacModel) else encodec_encoder(model, slots)


def whole_codes(model: AnyCodec, samples: NDArray[np.float32]) -> NDArray[np.int64]:
    """What transformers encodes, as frames int64[n, levels]."""
    given: Tensor = torch.from_numpy(samples)[None, None]
    coder: Any = model
    with torch.inference_mode():
        if isinstance(model, EncodecModel):
            codes = coder.encode(given, bandwidth=model.config.target_bandwidths[0]).audio_codes[0]
        else:
            codes = coder.encode(given).audio_codes
    frames: NDArray[np.int64] = codes[0].t().numpy()
    return frames


CASES: dict[str, Callable[[], AnyCodec]] = {
    "mimi": tiny_mimi,
    "dac": tiny_dac,
    "dac, odd ratios": lambda: tiny_dac(downsampling_ratios=[3, 2, 5]),
    "encodec": tiny_encodec,
    "encodec, odd ratios": lambda: tiny_encodec(use_causal_conv=False, upsampling_ratios=[3, 5]),
}


def hearing(model: AnyCodec) -> AnyCodec:
    """With an encoder for whose codes the sound is what counts."""
    parts: Any = model
    with torch.no_grad():
        for name, tensor in parts.encoder.named_parameters():
            if name.endswith("bias"):
                tensor.zero_()
            elif name.endswith("original0"):
                tensor.mul_(3)
            elif isinstance(model, DacModel) and "conv" in name:
                tensor.normal_(std=(tensor.shape[1] * tensor.shape[2]) ** -0.5)
    return model


FRAME = {"mimi": 48, "dac": 64, "dac, odd ratios": 30, "encodec": 40, "encodec, odd ratios": 15}  # samples


@pytest.mark.parametrize("name", list(CASES))
def test_codes_are_transformers_own(name: str) -> None:
    model = hearing(CASES[name]())
    encoder = encoder_of(model)
    samples = sound(2000)
    frames = encoder.encode(samples)
    assert encoder.codes_per_frame == frames.shape[1] == LEVELS
    assert len(np.unique(frames)) > 20
    np.testing.assert_array_equal(frames, whole_codes(model, padded(samples, FRAME[name])))


@pytest.mark.parametrize("model", [tiny_mimi, tiny_dac, tiny_encodec])
def test_fewer_codebooks_are_the_first_ones_in_the_wanted_order(model: Callable[[], AnyCodec]) -> None:
    given = hearing(model())
    all_codes, some = encoder_of(given).encode(sound(700)), encoder_of(given, [(1, 0), (0, 0)]).encode(sound(700))
    np.testing.assert_array_equal(some, all_codes[:, [1, 0]])


@pytest.mark.parametrize(
    ("save", "load"),
    [
        (save_mimi, encoders.load_mimi),
        (save_dac, encoders.load_dac),
        (save_encodec, encoders.load_encodec),
    ],
)
def test_an_encoder_in_a_folder(
    save: Callable[[Path], Path], load: Callable[..., SpeechEncoder], tmp_path: Path
) -> None:
    assert load(save(tmp_path)).encode(sound(600)).shape[1] == LEVELS
    weights = tmp_path / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("encoder.")}
    save_file(kept, weights, {"format": "pt"})
    with pytest.raises(ConfigError, match=r"the weights lack encoder\."):
        load(tmp_path)
    with pytest.raises(ConfigError, match="nowhere"):
        load(tmp_path / "nowhere")


# -- samples and slots -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros((2, 5), np.float32), np.zeros(5, np.int16)])
def test_what_are_no_samples_is_refused(samples: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="must be floats in one dimension"):
        padded(samples, 4)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 9))
def test_a_last_frame_is_filled_with_silence(count: int, frame: int) -> None:
    whole = padded(sound(count), frame)
    assert len(whole) % frame == 0
    assert len(whole) - count < frame
    np.testing.assert_array_equal(whole[:count], sound(count))
    assert not whole[count:].any()


def test_levels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels of \[2, 3\] codes: must be in proportion \[1, 2\]"):
        frames_of([np.arange(2), np.arange(3)], [(0, 0), (1, 0), (1, 1)])
