"""Pictures that come out of `pipeline("any-to-any")`: those of transformers' own `generate`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from max_pipelines.any_to_any import (
    AnyToAnyPipeline,
    AutoModelForMultimodalLM,
    AutoProcessor,
    MultimodalModel,
    pipeline,
)
from tests.engines.tiny_multimodal import CODES, DRAWN, plain_multimodal
from tests.engines.tiny_processors import png, save_with_processor

PROMPT = "a red fox"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws."""
    return save_with_processor(tmp_path_factory.mktemp("janus"), "janus")


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[MultimodalModel]:
    """It, running in this process."""
    with AutoModelForMultimodalLM.from_pretrained(folder, dtype="float32", transport="thread") as model:
        yield model


@pytest.fixture(scope="module")
def pipe(model: MultimodalModel) -> AnyToAnyPipeline:
    """A pipeline over it."""
    return pipeline("any-to-any", model=model)


def ids_of(folder: Path, text: str) -> list[list[int]]:
    """As transformers' processor reads it with `generation_mode="image"`."""
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    return [[*tokenizer(text)["input_ids"], tokenizer.convert_tokens_to_ids("<b>")]]


def drawn_by_transformers(folder: Path, text: str, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes, and pixel values before they are made bytes."""
    plain: Any = plain_multimodal(folder)
    ids = torch.tensor(ids_of(folder, text))
    told = {"attention_mask": torch.ones_like(ids), "do_sample": False, **options}
    codes = plain.generate(input_ids=ids, generation_mode="image", **told)
    with torch.no_grad():
        return codes, plain.decode_image_tokens(codes)[0]


def test_a_record_has_the_picture(pipe: AnyToAnyPipeline, folder: Path) -> None:
    (record,) = pipe(PROMPT, generation_mode="image")
    assert record.keys() == {"input_text", "generated_image"}
    assert record["input_text"] == PROMPT
    picture = record["generated_image"]
    assert isinstance(picture, Image.Image)
    assert (picture.mode, picture.size) == ("RGB", (8, 8))
    _, values = drawn_by_transformers(folder, PROMPT)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    levels = ((values * std + mean) * 255).clip(0, 255)
    assert np.abs(np.asarray(picture) - levels.numpy()).max() < 1.01


def test_generate_gives_the_codes_of_transformers(model: MultimodalModel, folder: Path) -> None:
    different: tuple[dict[str, Any], ...] = ({}, {"guidance_scale": 2.0})
    for options in different:
        codes, _ = drawn_by_transformers(folder, PROMPT, **options)
        for ids in (ids_of(folder, PROMPT), [ids_of(folder, PROMPT)[0][:-1]]):
            found = model.generate(torch.tensor(ids), generation_mode="image", **options)
            assert isinstance(found, torch.Tensor)
            assert torch.equal(found, codes)


def test_several_chats_and_seeds(pipe: AnyToAnyPipeline) -> None:
    asked: dict[str, Any] = {"generation_mode": "image", "do_sample": True, "seed": 4, "max_new_tokens": 3}
    chat = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    first, second = pipe([PROMPT, "a dog"], **asked)
    assert np.array_equal(first["generated_image"], pipe(PROMPT, **asked)[0]["generated_image"])
    assert not np.array_equal(first["generated_image"], second["generated_image"])
    assert not np.array_equal(first["generated_image"], pipe(PROMPT, **{**asked, "seed": 5})[0]["generated_image"])
    told = {"processor_kwargs": {"generation_mode": "image"}}  # as it has to be said to transformers
    records = pipe([chat, chat], **asked, **told)
    assert records[0][0]["input_text"] == chat
    assert np.array_equal(records[0][0]["generated_image"], records[1][0]["generated_image"])


def test_codes_come_as_they_are_chosen(pipe: AnyToAnyPipeline) -> None:
    *coming, last = pipe.stream(PROMPT, generation_mode="image")
    codes = torch.cat([piece["generated_token_ids"] for piece in coming])
    assert codes.shape == (DRAWN,)
    assert int(codes.max()) < CODES
    assert np.array_equal(last["generated_image"], pipe(PROMPT, generation_mode="image")[0]["generated_image"])


def test_it_sees_and_writes_like_any_other(pipe: AnyToAnyPipeline, model: MultimodalModel) -> None:
    assert model.output_modalities == ("text", "image")
    chat = [{"role": "user", "content": [{"type": "image", "image": png(1)}, {"type": "text", "text": "What is it?"}]}]
    assert pipe(chat, max_new_tokens=5, return_full_text=False)[0]["generated_text"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"generation_mode": "audio"}, "generation_mode = 'audio': this model gives text and image"),
        ({"guidance_scale": 3.0}, "guidance_scale: is for generation_mode = 'image'"),
        ({"generation_mode": "image", "guidance_scale": 0.5}, r"guidance = 0\.5: must be"),
        ({"generation_mode": "image", "num_beams": 2}, "num_beams: is for texts"),
        ({"generation_mode": "image", "stop_sequence": "x"}, "a picture has no text"),
        ({"generation_mode": "image", "return_full_text": True}, "return_full_text: is for generation_mode = 'text'"),
        ({"generation_mode": "image", "text": "see <img>", "images": png(1)}, "images: cannot be had with a picture"),
    ],
)
def test_what_cannot_be_done_is_said(pipe: AnyToAnyPipeline, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pipe(**{"text": PROMPT, **asked})
