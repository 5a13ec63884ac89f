"""From a text with an image or a sound to tokens: transformers' processors, without torchvision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from max_engines.engine import Engine
from max_engines.media.processing import open_processor, prompt_of
from tests.engines.tiny_models import generate, load, start
from tests.engines.tiny_multimodal import (
    PATCH,
    SEEN_BY_GEMMA,
    SIDE,
    Shown,
    plain_multimodal,
    said_by_transformers,
    save_multimodal,
)
from tests.tiny_text import make_tokenizer

pytest.importorskip("PIL", reason="processors of images need pillow")
COUNT = 10
RATE = 16_000
TOKENS = {"image": "<img>", "video": "<vid>", "audio": "<snd>", "boi": "<b>", "eoi": "<e>"}
TOKENS |= {"vision_bos": "<vb>", "vision_eos": "<ve>", "audio_bos": "<ab>", "audio_eos": "<ae>"}
TOKENS = {f"{name}_token": text for name, text in TOKENS.items()}
QWEN = {"patch_size": PATCH, "min_pixels": 256, "max_pixels": 2048}
CHECKPOINTS: dict[str, tuple[str, str, dict[str, Any]]] = {  # the class, a text, and options of the image processor
    "llava": ("CLIP", "see <img> there", {"size": {"shortest_edge": SIDE}, "crop_size": SIDE}),
    "qwen2.5-vl": ("Qwen2VL", "see <vb><img><ve> there", QWEN),
    "qwen3-vl": ("Qwen2VL", "see <vb><img><ve> there", QWEN),
    "gemma3": ("Gemma3", "see <b> there", {"size": {"height": SIDE, "width": SIDE}}),
    "qwen2-audio": ("", "hear <ab><snd><ae> there", {}),
    "qwen2.5-omni": (
        "Qwen2VL",
        "see <vb><img><ve> and hear <ab><snd><ae>",
        {"patch_size": PATCH, "min_pixels": 256, "max_pixels": 2048},
    ),
}


def image(seed: int, height: int = 50, width: int = 70) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def sound(seed: int) -> NDArray[np.float32]:
    """0.4 s."""
    return (np.random.default_rng(seed).standard_normal(RATE * 2 // 5) * 0.1).astype(np.float32)


@pytest.fixture(params=CHECKPOINTS, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def folder(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its tokenizer and processor, as they are published."""
    path = tmp_path_factory.mktemp(name)
    plain = make_tokenizer()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=plain.backend_tokenizer, pad_token="<pad>", extra_special_tokens=TOKENS
    )
    tokenizer.save_pretrained(path)
    kind, _, of_images = CHECKPOINTS[name]
    parts: dict[str, Any] = {}
    if "<snd>" in CHECKPOINTS[name][1]:
        hearing: Any = transformers.WhisperFeatureExtractor
        parts |= hearing(feature_size=16, chunk_length=0.4).to_dict()
    if kind:
        parts |= getattr(transformers, f"{kind}ImageProcessorPil")(**of_images).to_dict()
    (path / "preprocessor_config.json").write_text(json.dumps(parts))
    options = {"llava": {"patch_size": PATCH, "vision_feature_select_strategy": "default"}}
    options["llava"]["num_additional_image_tokens"] = 1
    options["gemma3"] = {"image_seq_length": SEEN_BY_GEMMA}
    if name in options:
        (path / "processor_config.json").write_text(json.dumps(options[name]))

    def change(config: Any) -> None:
        config = getattr(config, "thinker_config", config)
        config.get_text_config().vocab_size = len(tokenizer)
        for token, text in TOKENS.items():
            short = token.removesuffix("_token")
            for field in (f"{token}_id", f"{token}_index", f"{short}_id"):
                if hasattr(config, field):
                    setattr(config, field, tokenizer.convert_tokens_to_ids(text))

    return save_multimodal(path, name, change)


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


@pytest.mark.parametrize("name", ["qwen2.5-vl"], scope="module")
def test_a_video_is_refused(folder: Path, name: str) -> None:
    video = np.zeros((4, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"videos: .* needs torchvision"):
        open_processor(folder)(text="see <vb><vid><ve>", videos=[video], return_tensors="np")
