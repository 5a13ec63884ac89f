"""Embeddings are those of plain transformers, whatever else is in the batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers import AutoModel, PreTrainedModel, T5Config, T5ForConditionalGeneration

from max_engines.embedding.encoder import Encoder, load_encoder
from tests.tiny_encoders import CONTEXT, DECODERS, ENCODERS, VOCAB, make_encoder, plain

CLOSE = 1e-5
POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "last": "pooling_mode_lasttoken"}
IDS = st.lists(st.integers(8, VOCAB - 1), min_size=1, max_size=CONTEXT)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: make_encoder(tmp_path_factory.mktemp(kind), kind) for kind in ENCODERS}


@cache
def of_transformers(folder: Path) -> PreTrainedModel:
    return plain(folder)


@cache
def ours(folder: Path) -> Encoder:
    return load_encoder(folder, dtype="float32")


def expected(folder: Path, ids: list[int], pooling: str, *, normalized: bool = True) -> NDArray[np.float32]:
    """One text by itself, without a mask, in the words of the definition."""
    with torch.inference_mode():
        hidden = of_transformers(folder)(input_ids=torch.tensor([ids])).last_hidden_state[0]
    vector = {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    made: NDArray[np.float32] = (vector / vector.norm() if normalized else vector).numpy()
    return made


@pytest.mark.parametrize("kind", ENCODERS)
def test_they_are_those_of_transformers_in_a_batch_of_any_lengths(kind: str, folders: dict[str, Path]) -> None:
    encoder, pooling = ours(folders[kind]), "last" if kind in DECODERS else "mean"
    assert encoder.max_tokens == CONTEXT
    generator = torch.Generator().manual_seed(0)
    texts = [
        torch.randint(8, VOCAB, (length,), generator=generator).tolist() for length in (1, 5, 31, 32, 33, 90, CONTEXT)
    ]
    for ids, vector in zip(texts, encoder.embed(texts), strict=True):
        found = encoder.finished(vector, None)
        assert np.abs(found - expected(folders[kind], ids, pooling)).max() <= CLOSE


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(IDS, min_size=1, max_size=6), kind=st.sampled_from(["bert", "roberta", "qwen3"]))
def test_the_rest_of_the_batch_does_not_matter(texts: list[list[int]], kind: str, folders: dict[str, Path]) -> None:
    encoder = ours(folders[kind])
    together = encoder.embed(texts)
    for ids, vector in zip(texts, together, strict=True):
        alone = encoder.embed([ids])[0]
        assert np.abs(encoder.finished(vector, None) - encoder.finished(alone, None)).max() <= CLOSE


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("normalize", [True, False])
def test_the_recipe_beside_the_checkpoint_is_followed(pooling: str, normalize: bool, tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS[pooling], normalize=normalize)
    encoder = load_encoder(folder)
    (vector,) = encoder.embed([[9, 10, 11]])
    wanted = expected(folder, [9, 10, 11], pooling, normalized=normalize)
    assert np.abs(encoder.finished(vector, None) - wanted).max() <= CLOSE * max(1, np.abs(wanted).max())
    assert encoder.recipe.normalized is normalize
    overruled = load_encoder(folder, pooling="last", normalized=True)
    assert (overruled.recipe.pooling, overruled.recipe.normalized) == ("last", True)


def test_the_most_tokens_are_those_that_the_recipe_names(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS["mean"])
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 40}))
    assert load_encoder(folder).max_tokens == 40


def test_fewer_dimensions_are_the_first_ones_normalised_anew(folders: dict[str, Path]) -> None:
    encoder = ours(folders["bert"])
    (vector,) = encoder.embed([[9, 10, 11]])
    whole, few = encoder.finished(vector, None), encoder.finished(vector, 16)
    assert few.shape == (16,)
    assert np.allclose(few, whole[:16] / np.linalg.norm(whole[:16]), atol=1e-6)
    with pytest.raises(ValueError, match="dimensions = 65: this model's embeddings have 64"):
        encoder.finished(vector, 65)


def test_what_cannot_be_followed_is_refused_by_its_name(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", "pooling_mode_weightedmean_tokens")
    with pytest.raises(ValueError, match="pools by pooling_mode_weightedmean_tokens; one of mean, last and cls"):
        load_encoder(folder)
    change_modules(folder, lambda modules: modules[1].update(type="sentence_transformers.models.WordWeights"))
    with pytest.raises(ValueError, match=r"a module 'sentence_transformers\.models\.WordWeights'"):
        load_encoder(folder)


def change_modules(folder: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    file = folder / "modules.json"
    modules = json.loads(file.read_text())
    change(modules)
    file.write_text(json.dumps(modules))


def test_a_module_of_the_checkpoints_own_is_not_taken_for_the_known_one_of_that_name(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS["mean"])
    change_modules(folder, lambda modules: modules[0].update(type="custom_st.Transformer"))
    with pytest.raises(ValueError, match=r"a module 'custom_st\.Transformer'"):
        load_encoder(folder)


def test_modules_in_an_order_that_is_not_ours_are_refused(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS["mean"])
    change_modules(folder, lambda modules: modules.insert(1, modules.pop()))
    with pytest.raises(ValueError, match="by Transformer, Normalize, Pooling; known is Transformer, Pooling, Dense"):
        load_encoder(folder)


def add_dense(folder: Path, number: int, weights: dict[str, torch.Tensor], **config: object) -> None:
    """A linear layer behind the pooling, as sentence-transformers saves it."""
    name = f"{number}_Dense"
    (folder / name).mkdir()
    (folder / name / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / name / "model.safetensors")
    entry = {"idx": number, "name": str(number), "path": name, "type": "sentence_transformers.models.Dense"}
    change_modules(folder, lambda modules: modules.insert(number, entry))


def test_linear_layers_behind_the_pooling(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS["mean"])
    first, bias, second = torch.randn(32, 64), torch.randn(32), torch.randn(48, 32)
    add_dense(folder, 2, {"linear.weight": first, "linear.bias": bias})  # Tanh, if nothing is said
    add_dense(folder, 3, {"linear.weight": second}, activation_function="torch.nn.modules.linear.Identity")
    encoder = load_encoder(folder, dtype="float32")
    assert encoder.width == 48
    (vector,) = encoder.embed([[9, 10, 11]])
    pooled = torch.from_numpy(expected(folder, [9, 10, 11], "mean", normalized=False))
    wanted = second @ torch.tanh(first @ pooled + bias)
    assert np.abs(encoder.finished(vector, None) - (wanted / wanted.norm()).numpy()).max() <= CLOSE


@pytest.mark.parametrize(
    ("weights", "config", "words"),
    [
        ({"linear.weight": torch.ones(8, 64)}, {"activation_function": "theirs.Tanh"}, "function 'theirs.Tanh'"),
        ({"linear.weight": torch.ones(8, 64)}, {"activation_function": "torch.nn.Mish"}, "function 'torch.nn.Mish'"),
        ({"linear.weight": torch.ones(8, 64)}, {"use_residual": True}, "has a residual"),
        ({"linear.weight": torch.ones(8, 64)}, {"module_input_name": "token_embeddings"}, "maps tokens"),
        ({"weight": torch.ones(8, 64)}, {}, "no model.safetensors with a linear.weight"),
        ({"linear.weight": torch.full((8, 64), torch.nan)}, {}, "NaN"),
        ({"linear.weight": torch.ones(8, 65)}, {}, "maps vectors of 65 numbers, and they have 64"),
    ],
)
def test_a_layer_that_is_not_ours_is_refused(
    weights: dict[str, torch.Tensor], config: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = make_encoder(tmp_path, "bert", POOLINGS["mean"])
    add_dense(folder, 2, weights, **config)
    with pytest.raises(ValueError, match=words):
        load_encoder(folder)


SMALL: dict[str, object] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("FNetConfig", {**SMALL, "vocab_size": VOCAB}, "FNetModel does not read token ids|another vector beside"),
        ("NystromformerConfig", {**SMALL, "vocab_size": VOCAB, "initializer_range": 0.2}, "another vector beside"),
        ("ViTConfig", {**SMALL, "image_size": 32}, "ViTModel does not read token ids"),
    ],
)
def test_what_mixes_a_text_with_its_padding_is_refused(
    name: str, options: dict[str, object], words: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module = AutoModel.from_config(getattr(transformers, name)(**options))  # type: ignore[no-untyped-call]
    module.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words):
        load_encoder(tmp_path)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=32, num_layers=1)).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match="'t5' gives no vector for each token"):
        load_encoder(tmp_path)


def test_checkpoints_are_held_to_the_same_rules_as_language_models(tmp_path: Path) -> None:
    folder = make_encoder(tmp_path, "bert")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="is a pickle"):
        load_encoder(folder)
