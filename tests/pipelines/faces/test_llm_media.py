"""vLLM's LLM with images and sounds."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import PreTrainedModel

from max_pipelines.llm import LLM, AsyncLLM, BeamSearchParams, SamplingParams
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import RATE, image, png, save_with_processor, shown_by_transformers, sound, wav
from tests.pipelines.test_media_road import read

COUNT = 8
GREEDY = SamplingParams(temperature=0, max_tokens=COUNT, ignore_eos=True)
SEEN, HEARD = "<vb><img><ve>", "<ab><snd><ae>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_with_processor(tmp_path_factory.mktemp("omni"), "qwen2.5-omni")


@pytest.fixture(scope="module")
def plain(folder: Path) -> PreTrainedModel:
    return plain_multimodal(folder)


@pytest.fixture(scope="module")
def llm(folder: Path) -> Iterator[LLM]:
    with LLM(str(folder), transport="thread", limit_mm_per_prompt={"image": 3, "audio": 1}) as llm:
        yield llm


def tokens(llm: LLM, prompts: Any, **options: Any) -> list[tuple[int, ...]]:
    outputs = llm.generate(prompts, GREEDY, use_tqdm=False, **options)
    return [tuple(output.outputs[0].token_ids) for output in outputs]


def seeing(text: str, **data: Any) -> Any:
    return {"prompt": text, "multi_modal_data": data}


def said(plain: PreTrainedModel, folder: Path, prompt: str, images: Any = (), sounds: Any = ()) -> tuple[int, ...]:
    return said_by_transformers(plain, shown_by_transformers(folder, prompt, images, sounds), COUNT)


def test_prompts_with_media_among_others_are_completed_as_transformers_does(
    llm: LLM, folder: Path, plain: PreTrainedModel
) -> None:
    both, two = f"a {SEEN} and {HEARD}", f"{SEEN} {SEEN}"
    ids = llm.get_tokenizer().encode(both)
    picture = Image.fromarray(image(1))
    prompts: list[Any] = [
        seeing(both, image=picture, audio=(sound(1), RATE)),
        "just text",
        seeing(two, image=[picture, image(2, 64, 40)]),
        {"prompt_token_ids": ids, "multi_modal_data": {"image": [png(1)], "audio": [wav(1)]}},
    ]
    first = said(plain, folder, both, [image(1)], [sound(1)])
    expected = [first, said(plain, folder, "just text"), said(plain, folder, two, [image(1), image(2, 64, 40)]), first]
    assert tokens(llm, prompts) == expected
    (streamed,) = [*llm.stream(prompts[0], GREEDY)][-1].outputs
    assert tuple(streamed.token_ids) == first
    (beams,) = llm.beam_search([prompts[0]], BeamSearchParams(beam_width=2, max_tokens=COUNT, ignore_eos=True))
    assert len(beams.sequences) == 2


def message(*parts: Any) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [{"role": "user", "content": content}]


def image_url(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(data).decode()}"}}


def test_conversations_with_media_as_openai_writes_them(llm: LLM, folder: Path, plain: PreTrainedModel) -> None:
    """One of them is larger than any other JSON that is taken."""
    large = png(1, 400, 300)
    assert len(large) > 2**18
    heard = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(1)).decode(), "format": "wav"}}
    talks = [message("see ", image_url(large), " hear ", heard), message("hello")]
    answers = llm.chat(talks, GREEDY, use_tqdm=False)
    expected = [
        said(plain, folder, read("see ", SEEN, " hear ", HEARD), [image(1, 400, 300)], [sound(1)]),
        said(plain, folder, read("hello")),
    ]
    assert [tuple(answer.outputs[0].token_ids) for answer in answers] == expected
    assert tuple([*llm.stream_chat(talks[0], GREEDY)][-1].outputs[0].token_ids) == expected[0]


def test_voxtral_hears(tmp_path: Path) -> None:
    save_with_processor(tmp_path, "voxtral")
    heard = {"type": "input_audio", "input_audio": {"data": base64.b64encode(wav(1)).decode(), "format": "wav"}}
    written, place = plain_multimodal(tmp_path), "<ab><snd>"
    with LLM(str(tmp_path), transport="thread", dtype="float32") as llm:
        two = seeing(f"{place} or {place}?", audio=[(sound(1), RATE), (sound(2), RATE)])
        expected = said(written, tmp_path, f"{place} or {place}?", (), [sound(1), sound(2)])
        assert tokens(llm, [two, "just text"]) == [expected, said(written, tmp_path, "just text")]
        (answer,) = llm.chat(message("what is ", heard), GREEDY, use_tqdm=False)
        expected = said(written, tmp_path, read("what is ", place), (), [sound(1)])
        assert tuple(answer.outputs[0].token_ids) == expected
        with pytest.raises(ValueError, match="this model takes text and audio"):
            tokens(llm, seeing("x", image=png(1)))


SMALL = {"size": {"shortest_edge": 256, "longest_edge": 1024}}


def test_the_processors_options_are_one_calls_one_prompts_or_all(llm: LLM, folder: Path) -> None:
    prompt = seeing(SEEN, image=image(1))
    (usual, few) = llm.generate([prompt, prompt | {"mm_processor_kwargs": SMALL}], GREEDY, use_tqdm=False)
    assert few.prompt_token_ids is not None
    assert usual.prompt_token_ids is not None
    assert len(few.prompt_token_ids) < len(usual.prompt_token_ids)
    talk = message(image_url(png(1)))
    (by_call,) = llm.chat(talk, GREEDY, use_tqdm=False, mm_processor_kwargs=SMALL)
    (by_none,) = llm.chat(talk, GREEDY, use_tqdm=False)
    assert by_call.prompt_token_ids is not None
    assert by_none.prompt_token_ids is not None
    assert len(by_call.prompt_token_ids) < len(by_none.prompt_token_ids)
    with LLM(str(folder), transport="thread", mm_processor_kwargs=SMALL) as small:
        (output,) = small.generate(prompt, GREEDY, use_tqdm=False)
        assert output.prompt_token_ids == few.prompt_token_ids
    with pytest.raises(ValueError, match=r"processor_options\.colour: this model's processor takes"):
        tokens(llm, prompt | {"mm_processor_kwargs": {"colour": 1}})


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (seeing(SEEN * 4, image=[png(1)] * 4), "4 of kind image; limit_mm_per_prompt allows 3"),
        (seeing(SEEN, image="none.png"), "is no URL, data: URL, base64 or existing file"),
        (seeing(SEEN, image=b"GIF89a"), r"images\[0\]: "),
        (seeing("none", image=png(1)), "0 <img> tokens and 1 images"),
        (seeing("x", smell=[1]), "multi_modal_data: 'smell'; give image, audio, video"),
        (seeing("x", video=[1]), r"videos\[0\]: int is no path"),
    ],
)
def test_what_cannot_be_had_is_refused(prompt: Any, says: str, llm: LLM) -> None:
    with pytest.raises(ValueError, match=says):
        tokens(llm, prompt)


def test_one_that_cannot_be_read_fails_alone(llm: LLM) -> None:
    prompts: list[Any] = [seeing(SEEN, image=png(1)), seeing(SEEN, image=b"GIF89a"), "text"]
    with pytest.warns(UserWarning, match=r"1 of 3 prompts failed: .*images\[0\]"):
        outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
    assert [output.error is None for output in outputs] == [True, False, True]


def test_files_of_this_machine_are_not_read_for_a_conversation(llm: LLM, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    for url in (str(tmp_path / "a.png"), f"file://{tmp_path}/a.png"):
        with pytest.raises(ValueError, match=r"images\[0\]"):
            llm.chat(message({"type": "image_url", "image_url": {"url": url}}), GREEDY, use_tqdm=False)
    assert tokens(llm, seeing(SEEN, image=str(tmp_path / "a.png")))


async def test_limits_that_are_none_are_refused(folder: Path) -> None:
    for limits in ({"image": -1}, {"smell": 1}, {"image": True}):
        with pytest.raises(ValueError, match="limit_mm_per_prompt"):
            AsyncLLM(str(folder), limit_mm_per_prompt=limits)
