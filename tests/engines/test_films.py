"""Films become the features that transformers makes of them, and models say of them what transformers says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from max_engines.engine import Engine
from max_engines.media.films import Qwen3Films, QwenFilms, SeenFilm
from max_engines.media.processor import MediaProcessor
from max_engines.tokenizer import load_tokenizer
from max_interfaces.text import MediaKind
from max_interfaces.values import JsonValue
from tests.engines.record_films import CASES, RECORDED
from tests.engines.test_multimodal import ask
from tests.engines.tiny_models import generate, load
from tests.engines.tiny_multimodal import PATCH, Shown, plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import RATE, save_with_processor

SIZE: dict[str, JsonValue] = {"shortest_edge": 256, "longest_edge": 2048}
FILM = "see <vb><vid><ve> there"
LARGE: dict[str, JsonValue] = {"size": {"shortest_edge": 256, "longest_edge": 1_000_000}}
TOLERANCE = 1e-6  # of values up to 3: float32's rounding


@pytest.fixture(scope="module")
def images() -> Any:
    """transformers' processor of images."""
    return Qwen2VLImageProcessorPil(patch_size=PATCH, min_pixels=256, max_pixels=2048)


@pytest.fixture(scope="module")
def films() -> QwenFilms:
    """Ours of films."""
    return QwenFilms({"patch_size": PATCH})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a checkpoint that sees films, by its name."""

    @cache
    def folder(name: str) -> Path:
        return save_with_processor(tmp_path_factory.mktemp(name), name)

    return folder


@pytest.fixture(scope="module")
def recorded() -> dict[str, NDArray[Any]]:
    """What transformers' processors have made of `CASES`."""
    with np.load(RECORDED) as arrays:
        return dict(arrays)


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
    with pytest.raises(ValueError, match="does not say how fast it is"):
        films.frames(3, None, 1, None)
    with pytest.raises(ValueError, match="fps = 0: must be more than 0"):
        films.frames(3, 1.0, 0, None)
    with pytest.raises(ValueError, match="the film has 3 frames, of which 8"):
        Qwen3Films({}).frames(3, 25.0, None, 8)
    with pytest.raises(ValueError, match="at least 2 are to be seen"):
        Qwen3Films({})([film(1)])
    with pytest.raises(ValueError, match="more than 200 times the other"):
        Qwen3Films({})([film(2, 32, 32 * 201)])


NAMED = [pytest.param(model, name, id=f"{model}, {name}") for name, one in CASES.items() for model in one.models]


@pytest.mark.parametrize(("model", "name"), NAMED)
def test_a_prompt_with_films_becomes_what_was_recorded(
    model: str, name: str, saved: Callable[[str], Path], recorded: dict[str, NDArray[Any]]
) -> None:
    case, processor = CASES[name], MediaProcessor.open(saved(model))
    expected = {key.rpartition("/")[2]: array for key, array in recorded.items() if key.startswith(f"{model}/{name}/")}
    shown = [chosen(processor, frames, case.fps, **case.asked) for frames in case.films]
    assert list(shown[0].indices) == expected.pop("seen").tolist()
    ids, features = processor.process(
        case.text, encoder(saved(model)), options={"size": dict(case.size(model))}, films=shown
    )
    assert list(ids) == expected.pop("input_ids")[0].tolist()
    made = {feature.name: feature.array for feature in features}
    assert made.keys() == expected.keys()
    if "fps" not in case.asked:
        made.pop("video_second_per_grid", None)  # transformers takes any film for one of 2 frames a second
    for key, array in made.items():
        np.testing.assert_allclose(array, expected[key], rtol=0, atol=TOLERANCE if array.dtype.kind == "f" else 0)


def encoder(folder: Path) -> Callable[[str], list[int]]:
    return partial(load_tokenizer(folder).encode, parse_special_tokens=True)


def chosen(
    processor: MediaProcessor,
    frames: NDArray[np.uint8],
    film_fps: float,
    fps: float | None = None,
    num_frames: int | None = None,
) -> SeenFilm:
    indices = processor.frames(len(frames), film_fps, fps, num_frames)
    return SeenFilm(frames[list(indices)], indices, len(frames), film_fps, fps)


@pytest.mark.parametrize("kind", [QwenFilms, Qwen3Films])
def test_pixels_are_shared_out_among_frames_where_a_checkpoint_says_so(kind: type[QwenFilms]) -> None:
    """As the reference implementation of Qwen does, and transformers with `cap_pixels_per_frame`."""
    size = {"shortest_edge": 32**2, "longest_edge": 64 * 32**2}
    free = kind({"patch_size": 16, "size": size})
    capped = kind({"patch_size": 16, "size": size, "cap_pixels_per_frame": True, "max_video_tokens": 16})
    frames = film(4, 256, 256)
    most = {QwenFilms: (64 * 2, 7 * 2), Qwen3Films: (16 * 2, 16 * 2)}[kind]  # 16 * 0.9 tokens of 2 frames; 16 of each
    assert free.tokens([frames], {}) <= most[0]
    assert capped.tokens([frames], {}) <= most[1]
    assert capped([frames])["video_grid_thw"].prod() // 4 == capped.tokens([frames], {})


def test_settings_that_would_make_other_numbers_leave_images_alone(tmp_path: Path) -> None:
    folder = save_with_processor(tmp_path, "qwen3-vl")
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    processor = MediaProcessor.open(folder)
    assert processor.kinds == {MediaKind.IMAGE}
    with pytest.raises(ValueError, match="this model is shown no films"):
        processor.frames(8, 1.0, None, None)


def test_films_that_cannot_fit_are_refused_before_there_is_room_for_them(saved: Callable[[str], Path]) -> None:
    processor = MediaProcessor.open(saved("qwen2.5-vl"))
    still = np.broadcast_to(np.zeros(3, np.uint8), (700, 900, 900, 3))  # as floats 7 GB
    seen = SeenFilm(still, range(700), 700, 25.0)
    with pytest.raises(ValueError, match=r"videos: take 1097600 tokens, at most 500 fit; set fps or num_frames"):
        processor.process(FILM, encoder(saved("qwen2.5-vl")), options=LARGE, films=[seen], most=500)


SEEING = [("qwen2.5-omni", False), ("qwen2.5-omni", True), ("qwen2.5-vl", False), ("qwen3-vl", False)]


@pytest.mark.parametrize(("name", "heard"), SEEING)
def test_what_is_said_to_a_film_is_what_transformers_says(name: str, heard: bool, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    processor = MediaProcessor.open(folder)
    assert MediaKind.VIDEO in processor.kinds
    sound = (np.random.default_rng(1).standard_normal(RATE * 2 // 5) * 0.1).astype(np.float32)
    options: dict[str, JsonValue] = {
        "size": {"shortest_edge": 256, "longest_edge": 8192 if name == "qwen3-vl" else 2048}
    }
    engine, plain = Engine(load(folder)), plain_multimodal(folder)
    said = set()
    for seed in (4, 5):
        seen = SeenFilm(film(seed)[:4], range(4), 4, 1.0, 1.0, sound if heard else None)
        ids, features = processor.process(FILM, encoder(folder), options=options, films=[seen])
        names = {feature.name for feature in features}
        assert {"pixel_values_videos", "video_grid_thw"} <= names
        assert ("use_audio_in_video" in names) is heard
        shown = Shown(ids, {feature.name: torch.tensor(feature.array) for feature in features})
        said.add(generate(engine, [ask(shown)])[0])
        assert said_by_transformers(plain, shown, 16) in said
    assert len(said) == 2


def test_sounds_are_heard_in_the_order_of_the_text(saved: Callable[[str], Path]) -> None:
    folder = saved("qwen2.5-omni")
    processor, encode = MediaProcessor.open(folder), encoder(folder)
    loud, low = (
        (np.random.default_rng(1).standard_normal(RATE * 2 // 5) * part).astype(np.float32) for part in (0.5, 0.01)
    )

    text = f"hear <ab><snd><ae> and {FILM}"
    _, features = processor.process(
        text, encode, sounds=[low], options={"size": SIZE}, films=[SeenFilm(film(4), range(4), 4, 1.0, 1.0, loud)]
    )
    heard = next(feature.array for feature in features if feature.name == "input_features")
    for row, sound in zip(heard, (low, loud), strict=True):
        _, alone = processor.process("hear <ab><snd><ae>", encode, sounds=[sound])
        assert np.array_equal(row, next(one.array for one in alone if one.name == "input_features")[0])


def test_films_of_several_rates_are_refused_where_one_counts_for_all(saved: Callable[[str], Path]) -> None:
    def shown(name: str, *films: SeenFilm) -> int:
        processor, encode = MediaProcessor.open(saved(name)), encoder(saved(name))
        return len(processor.process(FILM + FILM, encode, options={"size": SIZE}, films=films)[0])

    slow, fast = (SeenFilm(film(4), range(4), 4, fps) for fps in (2.0, 4.0))
    with pytest.raises(ValueError, match=r"videos\[1\]: is shown at 4 frames a second, videos\[0\] at 2, .* set fps"):
        shown("qwen2.5-omni", slow, fast)
    assert shown("qwen2.5-omni", fast, fast)
    assert shown("qwen2.5-omni", *(replace(one, asked_fps=1.0) for one in (slow, fast)))
    assert shown("qwen2.5-vl", slow, fast)
