"""From a text with an image or a sound to tokens: transformers' processors, without torchvision."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from max_engines.engine import Engine
from max_engines.media.processing import open_processor, prompt_of
from max_engines.media.processor import MediaProcessor
from max_engines.tokenizer import load_tokenizer
from tests.engines.tiny_models import generate, load, start
from tests.engines.tiny_multimodal import (
    Shown,
    plain_multimodal,
    said_by_transformers,
    save_multimodal,
)
from tests.engines.tiny_processors import CHECKPOINTS, RATE, image, save_with_processor, sound

pytest.importorskip("PIL", reason="processors of images need pillow")
COUNT = 10


@pytest.fixture(params=CHECKPOINTS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its tokenizer and processor."""
    return save_with_processor(tmp_path_factory.mktemp(name), name)


def test_what_a_processor_makes_is_said_as_transformers_says_it(folder: Path, name: str) -> None:
    processor, engine, plain = open_processor(folder), Engine(load(folder)), plain_multimodal(folder)
    text = CHECKPOINTS[name][1]
    for seed in (1, 2):
        given: dict[str, Any] = {"text": text}
        if "<snd>" in text:
            given |= {"audio": [sound(seed)], "sampling_rate": RATE}
        if CHECKPOINTS[name][0]:
            given["images"] = [image(seed, 50 + 10 * seed)]
        ids, features = prompt_of(processor(**given, return_tensors="np"))
        shown = Shown(ids, {feature.name: torch.tensor(feature.array) for feature in features})
        asked = replace(start(ids, max_new_tokens=COUNT, ignore_eos=True), media=features)
        assert generate(engine, [asked]) == [said_by_transformers(plain, shown, COUNT)]


def test_what_cannot_be_is_refused_by_name(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'llama' has no processor"):
        open_processor(checkpoint("llama"))
    with pytest.raises(ValueError, match="cannot read the processor"):
        open_processor(save_multimodal(tmp_path, "llava"))
    with pytest.raises(ValueError, match="batch of 2 texts"):
        prompt_of(transformers.BatchFeature({"input_ids": np.zeros((2, 3), np.int64)}))


def given_to(name: str, seed: int) -> dict[str, Any]:
    """Images and sounds for each placeholder of a checkpoint's text, as `MediaProcessor` takes them."""
    kind, text, _ = CHECKPOINTS[name]
    return {"images": [image(seed)] if kind else [], "sounds": [sound(seed)] if "<snd>" in text else []}


def by_transformers(folder: Path, name: str, text: str, seed: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    given = given_to(name, seed)
    asked: dict[str, Any] = {"images": given["images"]} if given["images"] else {}
    if given["sounds"]:
        asked |= {"audio": given["sounds"], "sampling_rate": RATE}
    ids, features = prompt_of(open_processor(folder)(text=text, return_tensors="np", **asked))
    return ids, {feature.name: feature.array for feature in features}


def test_a_text_or_its_ids_become_what_transformers_makes_of_them(folder: Path, name: str) -> None:
    tokenizer, processor = load_tokenizer(folder), MediaProcessor.open(folder)
    text = "the fox: " + CHECKPOINTS[name][1] + " a list"
    expected, arrays = by_transformers(folder, name, text, 1)
    whole = partial(tokenizer.encode, parse_special_tokens=True)
    piece = partial(whole, add_special_tokens=False)
    for prompt, encode in ((text, whole), (tuple(whole(text)), piece)):
        ids, features = processor.process(prompt, encode, **given_to(name, 1))
        assert tokenizer.decode(ids, skip_special_tokens=False) == tokenizer.decode(expected, skip_special_tokens=False)
        if name != "gemma3" or prompt is text:  # its line breaks may join those of a text
            assert ids == expected
        assert {feature.name for feature in features} == set(arrays)
        if ids == expected:
            assert all(np.array_equal(feature.array, arrays[feature.name]) for feature in features)


@pytest.mark.parametrize("name", ["voxtral"], scope="module")
def test_voxtrals_sounds_are_cut_and_filled_up_as_by_transformers(folder: Path, name: str) -> None:
    """Its own processor is told of 30 s, and of an id that this tiny tokenizer has for something else."""
    ours = open_processor(folder)
    kind: Any = transformers.VoxtralProcessor
    theirs = kind(ours.feature_extractor, ours.tokenizer)
    sounds = [sound(1), np.concatenate([sound(2), sound(3)[:100]]), sound(4)[:3000]]  # 1, 2 and 1 pieces
    batch = ours(text="<ab><snd> and <snd>, <snd>", audio=sounds, sampling_rate=RATE, return_tensors="np")
    whole = {"padding": True, "truncation": False, "pad_to_multiple_of": 6400, "return_tensors": "pt"}
    expected = theirs._retrieve_input_features(sounds, 40, sampling_rate=RATE, **whole)
    assert np.array_equal(batch["input_features"], expected.numpy())
    text = ours.tokenizer.decode(batch["input_ids"][0])
    assert [len(run) // len("<snd>") for run in re.findall("(?:<snd>)+", text)] == [5, 10, 5]
    for wrong in ("<snd>", "<snd>" * 4):
        with pytest.raises(ValueError, match=r"places for sounds, and 3 sounds"):
            ours(text=wrong, audio=sounds, sampling_rate=RATE)


@pytest.mark.parametrize("name", ["llava"], scope="module")
def test_what_a_processor_cannot_take_is_refused(folder: Path, name: str) -> None:
    tokenizer, processor = load_tokenizer(folder), MediaProcessor.open(folder)
    for images in ([image(1)] * 2, [], [image(1)[:0]]):
        with pytest.raises(ValueError, match="the model's processor refuses them: "):
            processor.process("see <img>", tokenizer.encode, images)
    wrong: tuple[dict[str, Any], ...] = ({"images": []}, {"nope": 1}, {"return_tensors": "pt"})
    for options in wrong:
        says = rf"processor_options\.{min(options)}: this model's processor takes .*crop_size"
        with pytest.raises(ValueError, match=says):
            processor.process("see <img>", tokenizer.encode, [image(1)], options=options)
    assert processor.kinds == {"image"}
