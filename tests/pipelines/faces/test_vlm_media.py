"""mlx-vlm's generate family with images and sounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel, ProcessorMixin

from max_pipelines.vlm import Model, apply_chat_template, batch_generate, generate, load, stream_generate
from max_pipelines.vlm.asking import text_of
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import RATE, image, save_with_processor, shown_by_transformers, sound, wav
from tests.tiny_text import BEGIN, make_tokenizer

Loaded = tuple[Model, Any]
COUNT = 8
SIZES = ((50, 70), (64, 40), (33, 90))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen2.5-Omni's thinker: how many tokens an image takes depends on its size."""
    return save_with_processor(tmp_path_factory.mktemp("omni"), "qwen2.5-omni")


@pytest.fixture(scope="module")
def plain(folder: Path) -> PreTrainedModel:
    return plain_multimodal(folder)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[Loaded]:
    model, processor = load(folder, transport="thread")
    with model:
        yield model, processor


def picture(number: int) -> Image.Image:
    return Image.fromarray(image(number, *SIZES[number % 3]))


def asked(loaded: Loaded, question: str, **counts: Any) -> str:
    model, processor = loaded
    prompt: str = apply_chat_template(processor, model.config, question, **counts)
    return prompt


def said(plain: PreTrainedModel, folder: Path, prompt: str, images: Any = (), sounds: Any = ()) -> tuple[int, ...]:
    shown = shown_by_transformers(folder, prompt, images, sounds)
    return said_by_transformers(plain, shown, COUNT)


OPTIONS: dict[str, Any] = {"max_tokens": COUNT}


def test_what_is_shown_is_told_as_transformers_does(loaded: Loaded, folder: Path, plain: PreTrainedModel) -> None:
    prompt = asked(loaded, "what?", num_images=2, num_audios=1)
    assert prompt.count("<img>") == 2
    assert prompt.count("<snd>") == 1
    expected = said(plain, folder, prompt, [picture(0), picture(1)], [sound(1)])
    given: dict[str, Any] = {"image": [picture(0), picture(1)], "audio": (sound(1), RATE), "max_tokens": COUNT}
    shown = [*stream_generate(*loaded, prompt, **given)]
    assert tuple(one.token for one in shown) == expected
    assert generate(*loaded, prompt, **given).text == "".join(one.text for one in shown)
    ids = loaded[1].tokenizer.encode(prompt, add_special_tokens=False)
    assert generate(*loaded, ids, **given).text == "".join(one.text for one in shown)


def test_every_form_of_an_image_is_the_same_image(loaded: Loaded, tmp_path: Path) -> None:
    prompt, path = asked(loaded, "what?", num_images=1), tmp_path / "a.png"
    picture(0).save(path)
    forms = [picture(0), image(0, *SIZES[0]), path, str(path), path.read_bytes(), [path]]
    assert len({generate(*loaded, prompt, image=form, **OPTIONS).text for form in forms}) == 1
    heard = asked(loaded, "what?", num_audios=1)
    sounds: list[Any] = [wav(1), (sound(1), RATE)]
    assert len({generate(*loaded, heard, audio=form, **OPTIONS).text for form in sounds}) == 1


@pytest.mark.parametrize("shape", [40, (24, 80)])
def test_images_are_resized(shape: Any, loaded: Loaded) -> None:
    prompt, (height, width) = asked(loaded, "what?", num_images=1), (shape, shape) if isinstance(shape, int) else shape
    small = picture(0).resize((width, height))
    result = generate(*loaded, prompt, image=picture(0), resize_shape=shape, **OPTIONS)
    same = generate(*loaded, prompt, image=small, **OPTIONS)
    assert (result.text, result.prompt_tokens) == (same.text, same.prompt_tokens)


def test_a_batch_of_three_sizes_sounds_and_texts_in_any_order_is_each_one_alone(loaded: Loaded) -> None:
    images: list[Any] = [picture(0), None, picture(1), None, picture(2), picture(3), None]
    audios: list[Any] = [None, (sound(1), RATE), None, None, (sound(2), RATE), None, (sound(3), RATE)]
    prompts = [
        asked(loaded, f"{at}?", num_images=int(one is not None), num_audios=int(other is not None))
        for at, (one, other) in enumerate(zip(images, audios, strict=True))
    ]
    for group in (True, False):
        response = batch_generate(
            *loaded, images, audios, prompts, COUNT, group_by_shape=group, track_image_sizes=group
        )
        assert response.image_sizes == ([(50, 70), None, (64, 40), None, (33, 90), (50, 70), None] if group else None)
        alone = [
            generate(*loaded, prompt, image=one, audio=other, **OPTIONS).text
            for prompt, one, other in zip(prompts, images, audios, strict=True)
        ]
        assert response.texts == alone
    assert len(set(response.texts)) == len(prompts)
    sized = batch_generate(*loaded, [picture(0)], None, prompts[:1], COUNT, resize_shape=20)
    assert sized.image_sizes == [(50, 70)]
    with pytest.raises(ValueError, match="images: 2 of them for 3 prompts"):
        batch_generate(*loaded, [picture(0)] * 2, None, prompts[:3])
    with pytest.raises(ValueError, match="audios: 3 of them for 1 prompts"):
        batch_generate(*loaded, None, [None] * 3, prompts[:1])


def test_media_belong_to_the_message_that_has_them_or_to_the_users_last(loaded: Loaded) -> None:
    model, processor = loaded
    first = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "one"}]}
    talk: list[dict[str, Any]] = [
        first,
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "two"},
        {"role": "system", "content": "z"},
    ]
    messages = apply_chat_template(processor, model.config, talk, return_messages=True, num_images=2, num_audios=1)
    assert messages[0] == first
    assert messages[2]["content"] == [{"type": "image"}, {"type": "audio"}, {"type": "text", "text": "two"}]
    assert messages[1]["content"] == [{"type": "text", "text": "yes"}]
    prompt = apply_chat_template(processor, model.config, talk, num_images=2, num_audios=1)
    assert (
        prompt.index("<img>")
        < prompt.index("one")
        < prompt.rindex("<img>")
        < prompt.index("<snd>")
        < prompt.index("two")
    )
    with pytest.raises(ValueError, match="no message of the user's"):
        apply_chat_template(processor, model.config, [{"role": "system", "content": "x"}], num_images=1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"image": "none.png"}, r"image\[0\]: 'none\.png' is no URL"),
        ({"image": [picture(0), b"x"]}, r"images\[1\]: is no image"),
        ({"image": [picture(0)] * 2}, "1 <img> tokens and 2 images"),
        ({"audio": np.zeros(9, np.float32)}, "samples without a rate"),
        ({"video": "a.mp4"}, r"video\[0\]: 'a\.mp4' is no URL"),
    ],
)
def test_what_cannot_be_shown_is_refused(given: dict[str, Any], says: str, loaded: Loaded) -> None:
    with pytest.raises(ValueError, match=says):
        generate(*loaded, asked(loaded, "what?", num_images=1), **given)


def test_the_processor_of_a_model_that_sees_is_transformers_own(loaded: Loaded) -> None:
    assert isinstance(loaded[1], ProcessorMixin)


def test_a_prompt_that_a_template_has_begun_is_not_begun_again() -> None:
    plain, beginning = make_tokenizer(), make_tokenizer()
    beginning.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    assert text_of(plain, "<s>see <img>") == "<s>see <img>"
    assert text_of(beginning, "<s>see <img>") == text_of(beginning, "see <img>") == "see <img>"
