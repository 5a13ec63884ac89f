"""Films on the faces for Python: mlx-vlm's functions, vLLM's class, transformers' pipeline."""

from __future__ import annotations

import base64
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import PreTrainedModel

from max_pipelines.any_to_any import AnyToAnyPipeline, pipeline
from max_pipelines.llm import LLM, SamplingParams
from max_pipelines.media import read_film
from max_pipelines.vlm import Model, apply_chat_template, batch_generate, generate, load
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import film_seen, image, save_with_processor
from tests.pipelines.media.making import film_file, greys, many_frames, promising

COUNT = 8
SEEN = "<vb><vid><ve>"
FILM = film_file(greys(12, 32, 48), rate=4)
OTHER = film_file(greys(8, 40, 32)[::-1], rate=8)
FRAMES = read_film(FILM).frames
GREEDY = SamplingParams(temperature=0, max_tokens=COUNT, ignore_eos=True)
MOST_MB = 64
Loaded = tuple[Model, Any]


@pytest.fixture(scope="module", params=["qwen2.5-vl", "qwen3-vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sees all frames of a film by itself, the other 2 a second, with their times."""
    return save_with_processor(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def plain(folder: Path) -> PreTrainedModel:
    return plain_multimodal(folder)


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Iterator[Loaded]:
    model, processor = load(folder, transport="thread")
    with model:
        yield model, processor


@pytest.fixture(scope="module")
def llm(folder: Path) -> Iterator[LLM]:
    with LLM(str(folder), transport="thread", limit_mm_per_prompt={"video": 2}) as llm:
        yield llm


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Iterator[AnyToAnyPipeline]:
    with pipeline("any-to-any", model=str(folder), dtype="float32", transport="thread") as pipe:
        yield pipe


def said(plain: PreTrainedModel, folder: Path, prompt: str, *films: bytes, **asked: Any) -> tuple[int, ...]:
    return said_by_transformers(plain, film_seen(folder, prompt, *films, **asked), COUNT)


def tokens(llm: LLM, prompts: Any) -> list[tuple[int, ...]]:
    return [tuple(output.outputs[0].token_ids) for output in llm.generate(prompts, GREEDY, use_tqdm=False)]


def seeing(text: str, film: Any, **options: Any) -> Any:
    return {"prompt": text, "multi_modal_data": {"video": film}, "mm_processor_kwargs": options}


def asked_of(loaded: Loaded, question: str = "what?", **counts: Any) -> str:
    prompt: str = apply_chat_template(loaded[1], loaded[0].config, question, **counts)
    return prompt


def chat(*parts: Any) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


def test_generate_tells_of_a_film_what_transformers_does_in_whatever_form_it_comes(
    loaded: Loaded, folder: Path, plain: PreTrainedModel, tmp_path: Path
) -> None:
    prompt = asked_of(loaded, num_videos=1)
    assert prompt.count(SEEN) == 1
    path = tmp_path / "a.mp4"
    path.write_bytes(FILM)
    spelled = loaded[1].tokenizer.decode(said(plain, folder, prompt, FILM))
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    for form in (FILM, path, str(path), [path], (FRAMES, 4), (pictures, 4)):
        assert generate(*loaded, prompt, video=form, max_tokens=COUNT).text == spelled
    usual = generate(*loaded, prompt, video=pictures, max_tokens=COUNT)
    assert usual.text == generate(*loaded, prompt, video=(FRAMES, 24), max_tokens=COUNT).text


def test_so_many_frames_a_second_are_seen_as_are_asked_for(
    loaded: Loaded, folder: Path, plain: PreTrainedModel
) -> None:
    prompt = asked_of(loaded, num_videos=1)
    few, more = (generate(*loaded, prompt, video=FILM, fps=fps, max_tokens=COUNT) for fps in (1.4, 2.7))
    assert few.prompt_tokens < more.prompt_tokens
    assert few.text == loaded[1].tokenizer.decode(said(plain, folder, prompt, FILM, fps=1.4))
    with pytest.raises(ValueError, match=r"processor_options\.fps = 0: must be a number above 0"):
        generate(*loaded, prompt, video=FILM, fps=0)


def test_a_batch_of_films_images_and_texts_is_each_one_alone(loaded: Loaded) -> None:
    films: list[Any] = [FILM, None, OTHER, (FRAMES[:5], 2), None]
    images: list[Any] = [None, image(1), None, image(2), None]
    prompts = [
        asked_of(loaded, f"{at}?", num_videos=int(one is not None), num_images=int(other is not None))
        for at, (one, other) in enumerate(zip(films, images, strict=True))
    ]
    alone = [
        generate(*loaded, prompt, image=other, video=one, max_tokens=COUNT).text
        for prompt, one, other in zip(prompts, films, images, strict=True)
    ]
    assert batch_generate(*loaded, images, None, prompts, COUNT, videos=films).texts == alone
    with pytest.raises(ValueError, match="videos: 1 of them for 5 prompts"):
        batch_generate(*loaded, None, None, prompts, COUNT, videos=[FILM])


def test_prompts_with_films_among_others_are_completed_as_transformers_does(
    llm: LLM, folder: Path, plain: PreTrainedModel
) -> None:
    one, two = f"see {SEEN}", f"{SEEN} or {SEEN}"
    metadata = {"fps": 4.0, "total_num_frames": 12, "frames_indices": [*range(12)]}
    prompts = [
        seeing(one, FILM),
        "just text",
        seeing(two, [FILM, OTHER], num_frames=4),
        seeing(one, (FRAMES, metadata)),
        seeing(one, FILM, fps=2, do_sample_frames=True),
        seeing(one, FILM, do_sample_frames=False),
        {"prompt_token_ids": llm.get_tokenizer().encode(one), "multi_modal_data": {"video": FILM}},
    ]
    whole = said(plain, folder, one, FILM)
    assert tokens(llm, prompts) == [
        whole,
        said_by_transformers(plain, film_seen(folder, "just text"), COUNT),
        said(plain, folder, two, FILM, OTHER, num_frames=4),
        whole,
        said(plain, folder, one, FILM, fps=2),
        said(plain, folder, one, FILM, do_sample_frames=False),
        whole,
    ]


def test_conversations_with_films_as_vllm_writes_them(llm: LLM, folder: Path, plain: PreTrainedModel) -> None:
    url = f"data:video/mp4;base64,{base64.b64encode(FILM).decode()}"
    talk = chat("what is ", {"type": "video_url", "video_url": {"url": url}})
    read = f"<s><|start|>user\nwhat is {SEEN}<|turn|>\n<|start|>assistant\n"
    (answer,) = llm.chat(talk, GREEDY, use_tqdm=False)
    assert tuple(answer.outputs[0].token_ids) == said(plain, folder, read, FILM)
    (few,) = llm.chat(talk, GREEDY, use_tqdm=False, mm_processor_kwargs={"fps": 2})
    assert tuple(few.outputs[0].token_ids) == said(plain, folder, read, FILM, fps=2)


def test_films_go_through_the_pipeline(
    pipe: AnyToAnyPipeline, folder: Path, plain: PreTrainedModel, tmp_path: Path
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(FILM)
    read = f"<s><|start|>user\n{SEEN}what?<|turn|>\n<|start|>assistant\n"
    asked: dict[str, Any] = {"max_new_tokens": COUNT, "return_tensors": True, "eos_token_id": 1}
    for part in ({"path": str(path)}, {"video": FILM}, {"video": (FRAMES, 4)}):
        ids = pipe(chat({"type": "video", **part}, "what?"), fps=2, **asked)[0]["generated_token_ids"]
        assert tuple(ids[-COUNT:].tolist()) == said(plain, folder, read, FILM, fps=2)
    beside = [pipe(f"see {SEEN}", videos=films, **asked)[0]["generated_token_ids"] for films in (FILM, [FILM])]
    assert tuple(beside[0][-COUNT:].tolist()) == said(plain, folder, f"see {SEEN}", FILM)
    assert beside[0].tolist() == beside[1].tolist()
    with pytest.raises(ValueError, match="load_audio_from_video = True: this model does not hear"):
        pipe(chat({"type": "video", "video": FILM}), load_audio_from_video=True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([FILM] * 3, "3 of kind video; limit_mm_per_prompt allows 2"),
        (FILM[:100], r"videos\[0\]: "),
        ((FRAMES, {"total_num_frames": 12}), "its metadata has fps = None; it must be a number"),
        ((FRAMES[:0], {"fps": 4.0}), "metadata go with frames, at least one"),
        ((Path("a.mp4"), {"fps": 4.0}), "metadata go with frames, at least one"),
        ((FRAMES, {"fps": 4.0, "total_num_frames": "12"}), "total_num_frames = '12'; it must be 1 or more"),
        ((FRAMES, {"fps": 4.0, "total_num_frames": 0}), "total_num_frames = 0; it must be 1 or more"),
        ((FRAMES, 0), r"videos\[0\]: 0 frames a second: must be more than 0"),
        (FRAMES.astype(np.float32), r"videos\[0\]: float32 of shape .*; expected uint8"),
        ("none.mp4", "is no URL, data: URL, base64 or existing file"),
    ],
)
def test_what_is_no_film_is_refused(given: Any, says: str, llm: LLM) -> None:
    with pytest.raises(ValueError, match=says):
        tokens(llm, seeing(SEEN, given))


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "a million frames": (lambda: many_frames(10**6), "has 120001 frames or more, the limit is 120000"),
    "tables of a million": (lambda: promising(FILM, 10**6), "has 1000000 frames or more, the limit is 120000"),
}


@pytest.mark.parametrize("folder", ["qwen2.5-vl"], indirect=True, scope="module")
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_film_of_a_million_frames_is_refused_by_every_face(
    bomb: str, loaded: Loaded, llm: LLM, pipe: AnyToAnyPipeline
) -> None:
    make, says = BOMBS[bomb]
    film = make()
    url = {"url": f"data:video/mp4;base64,{base64.b64encode(film).decode()}"}
    prompt = asked_of(loaded, num_videos=1)
    faces: list[Callable[[], object]] = [
        lambda: generate(*loaded, prompt, video=film, fps=1),
        lambda: batch_generate(*loaded, None, None, [prompt], videos=[film]),
        lambda: tokens(llm, seeing(SEEN, film)),
        lambda: llm.chat(chat({"type": "video_url", "video_url": url}), GREEDY, use_tqdm=False),
        lambda: pipe(chat({"type": "video", "video": film}), fps=1),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for face in faces:
        with pytest.raises(ValueError, match=rf"videos\[0\]: .*{says}"):
            face()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < MOST_MB + 8 * len(film) / 2**20


def test_a_whole_film_past_the_limit_asks_for_fps(loaded: Loaded, folder: Path) -> None:
    """Unless the model's own processor takes fewer."""
    prompt, film = asked_of(loaded, num_videos=1), many_frames(1000)
    if folder.name.startswith("qwen3"):
        assert generate(*loaded, prompt, video=film, max_tokens=1).generation_tokens == 1
        return
    with pytest.raises(ValueError, match=r"videos\[0\]: 1000 frames, the limit is 768; set fps or num_frames"):
        generate(*loaded, prompt, video=film)
    with pytest.raises(ValueError, match=r"videos: take 384 tokens, at most 256 fit; set fps or num_frames"):
        generate(*loaded, prompt, video=film, fps=1000)
