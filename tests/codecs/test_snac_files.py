"""Loading: folders, the hub's cache, the published format, and one clear error for everything that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import Tensor

from max_codecs.snac.codec import load_codec
from max_codecs.snac.config import AlignerConfig, SnacConfig, StackConfig
from max_codecs.snac.convert import main
from max_codecs.snac.encoder import load_encoder
from max_codecs.snac.files import locate
from max_codecs.snac.mel_encoder import Stack
from max_codecs.snac.model import build_model, load_model
from max_codecs.snac.weights import folded
from max_interfaces.errors import ConfigError
from max_interfaces.protocols import StreamStart

State = dict[str, Tensor]
FRAMES = np.arange(14).reshape(2, 7)


def write_folder(folder: Path, config: SnacConfig, state: State, name: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(state, folder / name)
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "decoder_fp16.safetensors", "pytorch_model.bin"])
def test_a_folder_is_loaded(tmp_path: Path, small_config: SnacConfig, small_state: State, name: str) -> None:
    model = load_model(write_folder(tmp_path, small_config, small_state, name))
    expected = build_model(small_config, small_state).decode(FRAMES)
    np.testing.assert_array_equal(model.decode(FRAMES), expected)
    codec = load_codec(str(tmp_path), noise=False)
    stream = codec.open(StreamStart())
    np.testing.assert_allclose(np.concatenate([stream.push(FRAMES), stream.flush()]), expected, rtol=0, atol=1e-5)
    assert (codec.sample_rate, codec.frame_samples, codec.codes_per_frame) == (8000, 96, 7)


def test_half_precision_files_and_an_encoder_are_taken(
    tmp_path: Path, small_config: SnacConfig, small_state: State
) -> None:
    half = {name: tensor.half() for name, tensor in small_state.items()} | {"encoder.x": torch.zeros(3)}
    got = load_model(write_folder(tmp_path, small_config, half)).decode(FRAMES)
    assert 0 < abs(got - build_model(small_config, small_state).decode(FRAMES)).max() < 0.05


def test_bfloat16_on_the_device(tmp_path: Path, small_config: SnacConfig, small_state: State) -> None:
    codec = load_codec(write_folder(tmp_path, small_config, small_state), dtype="bfloat16")
    stream = codec.open(StreamStart())
    sound = np.concatenate([stream.push(FRAMES), stream.flush()])
    assert sound.dtype == np.float32
    assert np.isfinite(sound).all()


def test_weight_norm_is_folded_under_every_name(small_state: State) -> None:
    plain = folded(small_state)
    assert not any("parametrizations" in name for name in plain)
    old = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): tensor
        for name, tensor in small_state.items()
    }
    for state in (folded(old), folded(plain)):
        assert state.keys() == plain.keys()
        assert all(torch.equal(state[name], plain[name]) for name in plain)


def test_the_converter_writes_what_loads(
    tmp_path: Path, small_config: SnacConfig, small_state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folder(tmp_path / "published", small_config, small_state, "pytorch_model.bin")
    target = tmp_path / "new"
    assert main([str(source), str(target)]) == 0
    assert capsys.readouterr().out == f"{target / 'model.safetensors'}\n"
    assert sorted(os.listdir(target)) == ["config.json", "model.safetensors"]
    assert load_file(target / "model.safetensors").keys() == small_state.keys()
    np.testing.assert_array_equal(load_model(target).decode(FRAMES), load_model(source).decode(FRAMES))


def test_the_converter_says_what_is_wrong_in_one_line(
    tmp_path: Path, small_config: SnacConfig, small_state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    safe = write_folder(tmp_path / "safe", small_config, small_state)
    for source, message in ((tmp_path / "no", "no such folder"), (safe, "nothing to convert")):
        assert main([str(source), str(tmp_path / "new")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


class Hostile:
    """What a pickle can do that a table of tensors cannot."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("hostile",)


def test_a_hostile_file_runs_nothing(tmp_path: Path, small_config: SnacConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_folder(tmp_path / "bad", small_config, {"x": Hostile()}, "pytorch_model.bin")  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="not a table of tensors"):
        load_model(folder)
    assert os.listdir(tmp_path) == ["bad"]


def test_a_hub_id_is_found_in_the_cache(tmp_path: Path, small_config: SnacConfig, small_state: State) -> None:
    repository, commit = tmp_path / "models--someone--snac", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    snapshot = write_folder(repository / "snapshots" / commit, small_config, small_state, "pytorch_model.bin")
    files = locate("someone/snac", cache=tmp_path, offline=True)
    assert files.config == snapshot / "config.json"
    assert files.weights == snapshot / "pytorch_model.bin"


TIMED = AlignerConfig(StackConfig(width=8, depth=1), first_phone=100, phones=16, pause=100)


def write_beside(folder: Path, config: SnacConfig) -> None:
    """What hears phones, and an encoder that is none."""
    head = Stack(config.latent, TIMED.stack.width, TIMED.phones, TIMED.stack.depth, causal=True)
    save_file({name: one.contiguous() for name, one in head.state_dict().items()}, folder / "aligner.safetensors")
    save_file({"x": torch.zeros(1)}, folder / "encoder.safetensors")


def test_what_lies_beside_is_not_taken_for_the_weights(
    tmp_path: Path, small_config: SnacConfig, small_state: State
) -> None:
    config = msgspec.structs.replace(small_config, aligner=TIMED, mel_encoder=StackConfig(8, 1))
    folder = write_folder(tmp_path, config, small_state, "decoder_fp16.safetensors")
    write_beside(folder, config)
    assert locate(folder).weights.name == "decoder_fp16.safetensors"
    assert load_model(folder).phones is not None
    (folder / "decoder_fp16.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"wants model\.safetensors or one other .* found: none"):
        locate(folder)


def test_of_a_hub_id_what_lies_beside_comes_when_it_is_needed(
    tmp_path: Path, small_config: SnacConfig, small_state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = msgspec.structs.replace(small_config, aligner=TIMED, mel_encoder=StackConfig(8, 1))
    folder, fetched = write_folder(tmp_path, config, small_state), list[str]()
    write_beside(folder, config)

    def download(source: str, name: str, **options: object) -> str:
        fetched.append(name)
        if not (folder / name).is_file():
            raise EntryNotFoundError(f"{source} has no {name}")
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_model("someone/snac").phones is not None
    assert fetched == ["config.json", "model.safetensors", "aligner.safetensors"]
    fetched.clear()
    with pytest.raises(ConfigError, match=r"encoder\.safetensors: does not fit"):
        load_encoder("someone/snac")
    assert fetched == ["config.json", "model.safetensors", "encoder.safetensors"]
    (folder / "aligner.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"someone/snac: its aligner\.safetensors cannot be had from the hub"):
        load_model("someone/snac")
    write_folder(tmp_path, small_config, small_state)
    fetched.clear()
    load_model("someone/snac")
    assert fetched == ["config.json", "model.safetensors"]


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere/at/all: there is no such folder"):
        load_model("nowhere/at/all")
    with pytest.raises(ConfigError, match=r"nobody/nothing: neither a folder here nor a codec on the hub"):
        locate("nobody/nothing", cache=tmp_path, offline=True)


def test_a_folder_that_does_not_fit_is_named(tmp_path: Path, small_config: SnacConfig, small_state: State) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"wants model\.safetensors"):
        locate(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match="attn_window_size=32: attention over blocks cannot be streamed"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_bytes(msgspec.json.encode(small_config))
    with pytest.raises(ConfigError, match=r"model\.safetensors: cannot read the codec's weights"):
        load_model(tmp_path)
    lacking = {name: tensor for name, tensor in small_state.items() if "codebook" not in name}
    with pytest.raises(ConfigError, match=r"does not fit config\.json: the weights lack quantizer\.quantizers\.0"):
        load_model(write_folder(tmp_path, small_config, lacking))
    wider = msgspec.structs.replace(small_config, decoder_dim=64)
    with pytest.raises(ConfigError, match=r"does not fit config\.json: .*size mismatch"):
        load_model(write_folder(tmp_path, wider, small_state))
    more = msgspec.structs.replace(small_config, codebook_size=65)
    with pytest.raises(ConfigError, match=r"has shape \[64, 8\], the configuration wants \[65, 8\]"):
        load_model(write_folder(tmp_path, more, small_state))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"sample_rate": 3}', "unknown field `sample_rate`"),
        ('{"codebook_size": 0}', "`int` >= 1"),
        ('{"encoder_rates": [2], "decoder_rates": [3]}', "must multiply to"),
        ('{"decoder_dim": 100}', "must halve once"),
        ("{", "config.json: "),
    ],
)
def test_a_bad_configuration_is_named(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=message) as caught:
        load_model(tmp_path)
    assert str(tmp_path / "config.json") in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "toaster"])
def test_a_device_that_is_not_there_is_named(
    tmp_path: Path, small_config: SnacConfig, small_state: State, device: str
) -> None:
    with pytest.raises(ConfigError, match=f"device='{device}': not usable here"):
        load_model(write_folder(tmp_path, small_config, small_state), device=device)
