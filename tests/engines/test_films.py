"""Films become the features that transformers makes of them, as far as that can be seen without torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from max_engines.engine import Engine
from max_engines.media.films import QwenFilms
from max_engines.media.processor import MediaProcessor, SeenFilm
from max_engines.tokenizer import load_tokenizer
from max_interfaces.text import MediaKind
from max_interfaces.values import JsonValue
from tests.engines.test_multimodal import ask
from tests.engines.tiny_models import generate, load
from tests.engines.tiny_multimodal import PATCH, Shown, plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import RATE, save_with_processor

SIZE: dict[str, JsonValue] = {"shortest_edge": 256, "longest_edge": 2048}
FILM = "see <vb><vid><ve> there"


@pytest.fixture(scope="module")
def images() -> Any:
    """transformers' processor of images."""
    return Qwen2VLImageProcessorPil(patch_size=PATCH, min_pixels=256, max_pixels=2048)


@pytest.fixture(scope="module")
def films(images: Any) -> QwenFilms:
    """Ours of films."""
    return QwenFilms(images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that sees films."""
    return save_with_processor(tmp_path_factory.mktemp("omni"), "qwen2.5-omni")


def film(count: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 255, (count, height, width, 3), dtype=np.uint8)


def test_a_still_film_is_as_its_image(films: QwenFilms, images: Any) -> None:
    still = np.repeat(film(1), 4, 0)
    made = films([still], size=SIZE)
    image = images(still[0], return_tensors="np")
    assert made["video_grid_thw"].tolist() == [[2, 4, 6]]
    np.testing.assert_allclose(made["pixel_values_videos"][:24], image["pixel_values"], atol=1e-5)
    np.testing.assert_allclose(made["pixel_values_videos"][24:], image["pixel_values"], atol=1e-5)


def test_one_that_is_resized_is_as_pillow_does_it(films: QwenFilms, images: Any) -> None:
    still = np.repeat(film(1, 70, 90), 2, 0)
    made, image = films([still], size=SIZE), images(still[0], return_tensors="np")
    assert made["video_grid_thw"].tolist() == image["image_grid_thw"].tolist()
    apart = np.abs(made["pixel_values_videos"] - image["pixel_values"])
    assert apart.max() < 2.5 / 255 / 0.26  # two levels of grey: torch and pillow round in other places
    assert apart.mean() < 0.5 / 255 / 0.26


def test_pairs_of_frames_and_films_of_several_sizes(films: QwenFilms) -> None:
    first, second = film(3), film(2, 64, 32)
    made = films([first, second], size=SIZE)
    assert made["video_grid_thw"].tolist() == [[2, 4, 6], [1, 8, 4]]
    alone = films([np.concatenate((first, first[-1:]))], size=SIZE)  # the last is shown twice
    assert np.array_equal(made["pixel_values_videos"][:48], alone["pixel_values_videos"])


@pytest.mark.parametrize(
    ("total", "fps", "asked", "expected"),
    [
        (100, 25.0, {"fps": 1}, [0, 25, 50, 75]),
        (250, 25.0, {"fps": 1}, [0, 25, 50, 75, 100, 125, 150, 175, 200, 225]),
        (10, 25.0, {"fps": 1}, [0, 2, 5, 7]),  # four at least
        (12, 25.0, {"num_frames": 5}, [0, 3, 6, 9]),  # a pair is seen at a time
        (3, None, {}, [0, 1, 2]),
    ],
)
def test_frames_are_chosen_as_by_transformers(
    films: QwenFilms, total: int, fps: float | None, asked: dict[str, Any], expected: list[int]
) -> None:
    """Worked out by hand from what `Qwen2VLVideoProcessor.sample_frames` of transformers 5.23 says it does."""
    assert list(films.frames(total, fps, asked.get("fps"), asked.get("num_frames"))) == expected


def test_frames_that_cannot_be_chosen(films: QwenFilms) -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        films.frames(10, 25.0, 1, 4)
    with pytest.raises(ValueError, match="the film has 3 frames, of which 8"):
        films.frames(3, 25.0, None, 8)
    with pytest.raises(ValueError, match="of a film that says how fast it is"):
        films.frames(3, None, 1, None)


@pytest.mark.parametrize("heard", [False, True])
def test_what_is_said_to_a_film_is_what_transformers_says(folder: Path, heard: bool) -> None:
    processor, tokenizer = MediaProcessor.open(folder), load_tokenizer(folder)
    assert MediaKind.VIDEO in processor.kinds
    sound = (np.random.default_rng(1).standard_normal(RATE * 2 // 5) * 0.1).astype(np.float32)
    seen = SeenFilm(film(4), 1.0, sound if heard else None)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, parse_special_tokens=True)

    ids, features = processor.process(FILM, encode, options={"size": SIZE}, films=[seen])
    names = {feature.name for feature in features}
    assert {"pixel_values_videos", "video_grid_thw", "video_second_per_grid"} <= names
    assert ("use_audio_in_video" in names) is heard
    arrays = {feature.name: torch.tensor(feature.array) for feature in features}
    shown = Shown(ids, arrays)
    assert generate(Engine(load(folder)), [ask(shown)])[0] == said_by_transformers(plain_multimodal(folder), shown, 16)


def test_sounds_are_heard_in_the_order_of_the_text(folder: Path) -> None:
    processor, tokenizer = MediaProcessor.open(folder), load_tokenizer(folder)
    loud, low = (
        (np.random.default_rng(1).standard_normal(RATE * 2 // 5) * part).astype(np.float32) for part in (0.5, 0.01)
    )

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, parse_special_tokens=True)

    text = f"hear <ab><snd><ae> and {FILM}"
    _, features = processor.process(
        text, encode, sounds=[low], options={"size": SIZE}, films=[SeenFilm(film(4), 1.0, loud)]
    )
    heard = next(feature.array for feature in features if feature.name == "input_features")
    for row, sound in zip(heard, (low, loud), strict=True):
        _, alone = processor.process("hear <ab><snd><ae>", encode, sounds=[sound])
        assert np.array_equal(row, next(one.array for one in alone if one.name == "input_features")[0])
