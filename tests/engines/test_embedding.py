"""Embeddings are those of plain transformers, whatever else is in the batch."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import PreTrainedModel, T5Config, T5ForConditionalGeneration

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
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.WordWeights"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="a module 'WordWeights'"):
        load_encoder(folder)


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
