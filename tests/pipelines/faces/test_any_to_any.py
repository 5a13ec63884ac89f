"""transformers' any-to-any on this engine: the examples of its document, with tiny checkpoints and a media server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch

from max_interfaces import StartFailed
from max_pipelines.any_to_any import (
    AnyToAnyPipeline,
    AutoModelForMultimodalLM,
    AutoProcessor,
    MultimodalModel,
    MultimodalProcessor,
    infer_device,
    pipeline,
    task,
)
from max_pipelines.any_to_any import processor as processor_module
from max_pipelines.any_to_any.chat import Chat
from max_pipelines.any_to_any.device import device_name
from max_pipelines.any_to_any.sampling import Sampling
from max_pipelines.media import Access
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import (
    PLACES,
    RATE,
    image,
    png,
    save_speaking,
    save_with_processor,
    shown_by_transformers,
    sound,
    wav,
)
from tests.pipelines.media.making import film_file, greys, many_frames
from tests.pipelines.media.serving import MediaServer, serving_media
from tests.tiny_text import make_tiny_text

SMALL = {"shortest_edge": 256, "longest_edge": 1024}
HEARD = PLACES["qwen2.5-omni"][1]


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole checkpoint that speaks."""
    return save_speaking(tmp_path_factory.mktemp("omni"))


@pytest.fixture(scope="module")
def model(omni: Path) -> Iterator[MultimodalModel]:
    """It, running in this process."""
    with AutoModelForMultimodalLM.from_pretrained(omni, dtype="float32", transport="thread") as model:
        yield model


@pytest.fixture(scope="module")
def processor(omni: Path) -> MultimodalProcessor:
    """Its processor."""
    return AutoProcessor.from_pretrained(omni)


@pytest.fixture(scope="module")
def pipe(model: MultimodalModel) -> AnyToAnyPipeline:
    """A pipeline over it."""
    return pipeline("any-to-any", model=model)


@pytest.fixture
def media(monkeypatch: pytest.MonkeyPatch) -> Iterator[MediaServer]:
    """A media server on this host, to which callers may go though its address is a private one."""
    with serving_media() as media:
        media.files |= {"/throat.wav": wav(1), "/picture.png": png(1)}
        access = Access(paths=True, hosts=None, private_hosts=frozenset({media.host}))
        for module in (task, processor_module):
            monkeypatch.setattr(module, "IN_PROCESS", access)
        yield media


def hearing(url: str) -> list[dict[str, Any]]:
    """The document's conversation."""
    content = [{"type": "audio", "url": url}, {"type": "text", "text": "What do you hear in this audio?"}]
    return [{"role": "user", "content": content}]


def read(*parts: str) -> str:
    """What the template makes of one message."""
    return f"<s><|start|>user\n{''.join(parts)}<|turn|>\n<|start|>assistant\n"


def test_the_first_flow_of_the_document(omni: Path, media: MediaServer) -> None:
    device = torch.device(infer_device())
    with pytest.warns(UserWarning, match="flash attention is not used here, but sdpa") as warned:
        model = AutoModelForMultimodalLM.from_pretrained(
            str(omni), dtype=torch.float32, attn_implementation="flash_attention_2", transport="thread"
        ).to(device)
    assert len(warned) == 1
    processor = AutoProcessor.from_pretrained(str(omni))
    messages = hearing(f"{media.url}/throat.wav")
    inputs = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_tensors="pt", add_generation_prompt=True
    )
    assert isinstance(inputs, dict)
    with model, torch.no_grad():
        generated_ids = model.generate(**inputs, max_new_tokens=20)
        assert isinstance(generated_ids, torch.Tensor)
        generated_texts = processor.batch_decode(generated_ids, skip_special_tokens=True)
    prompt = inputs.input_ids.shape[1]
    plain = plain_multimodal(omni)
    shown = shown_by_transformers(omni, read(HEARD, "What do you hear in this audio?"), [], [sound(1)])
    expected = said_by_transformers(plain, shown, 20)
    assert tuple(generated_ids[0, prompt:].tolist()) == expected
    assert generated_texts[0].endswith(processor.decode(expected, skip_special_tokens=True))
    assert generated_texts[0].startswith("user\nWhat do you hear")


def test_the_pipeline_of_the_document(pipe: AnyToAnyPipeline, media: MediaServer, omni: Path) -> None:
    messages = hearing(f"{media.url}/throat.wav")
    outputs = pipe(text=messages, max_new_tokens=20, return_full_text=False)
    shown = shown_by_transformers(omni, read(HEARD, "What do you hear in this audio?"), [], [sound(1)])
    expected = said_by_transformers(plain_multimodal(omni), shown, 20)
    spelled = AutoProcessor.from_pretrained(omni).decode(expected, skip_special_tokens=True)
    assert outputs == [{"input_text": messages, "generated_text": spelled}]
    full = pipe(text=messages, max_new_tokens=20)
    assert full[0]["generated_text"] == [*messages, {"role": "assistant", "content": spelled}]


def test_voxtral_as_in_the_document(tmp_path: Path, media: MediaServer) -> None:
    folder = save_with_processor(tmp_path, "voxtral")
    text = read("<ab><snd>", "What do you hear in this audio?")
    expected = said_by_transformers(plain_multimodal(folder), shown_by_transformers(folder, text, [], [sound(1)]), 10)
    spelled = AutoProcessor.from_pretrained(folder).decode(expected, skip_special_tokens=True)
    with pipeline("any-to-any", model=str(folder), dtype="float32", transport="thread") as pipe:
        outputs = pipe(text=hearing(f"{media.url}/throat.wav"), max_new_tokens=10, return_full_text=False)
        assert outputs[0]["generated_text"] == spelled
        with pytest.raises(ValueError, match="generation_mode = 'audio': this model gives text"):
            pipe(text="hello", generation_mode="audio")


def test_sound_comes_out_and_can_be_written(pipe: AnyToAnyPipeline, media: MediaServer, tmp_path: Path) -> None:
    messages = hearing(f"{media.url}/throat.wav")
    output = pipe(text=messages, max_new_tokens=20, generation_mode="audio", seed=1)
    record = output[0]
    assert record.keys() == {"input_text", "generated_audio", "sampling_rate"}
    assert record["generated_audio"].dtype == np.float32
    assert record["generated_audio"].ndim == 1
    sf.write(tmp_path / "generated_audio.wav", record["generated_audio"], record["sampling_rate"])
    written, rate = sf.read(tmp_path / "generated_audio.wav", dtype="float32")
    assert rate == 24_000
    assert len(written) == len(record["generated_audio"]) > 0


def test_sound_streams_while_the_text_is_made(pipe: AnyToAnyPipeline) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 60, "eos_token_id": 1, "generation_mode": "audio", "seed": 1}
    found = list(pipe.stream("the quick brown fox", **asked))
    sounding = [at for at, piece in enumerate(found) if "generated_audio" in piece]
    writing = [at for at, piece in enumerate(found) if "generated_text" in piece]
    assert sounding[0] < writing[-1]
    whole = pipe("the quick brown fox", **asked)[0]["generated_audio"]
    assert np.array_equal(np.concatenate([found[at]["generated_audio"] for at in sounding]), whole)


def test_the_video_of_the_document(pipe: AnyToAnyPipeline, media: MediaServer, tmp_path: Path) -> None:
    """`processor_kwargs` keep the frames small: this model has a context of 512 tokens."""
    media.files["/Cooking_cake.mp4"] = film_file(greys(40, 64, 64), rate=10, sound=sound(1))
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "video", "path": f"{media.url}/Cooking_cake.mp4"},
                {"type": "text", "text": "Describe this video."},
            ],
        },
    ]
    asked: dict[str, Any] = {"max_new_tokens": 20, "processor_kwargs": {"size": SMALL}, "seed": 1}
    output = pipe(text=messages, fps=1, load_audio_from_video=True, generation_mode="audio", **asked)
    sf.write(tmp_path / "generated_audio.wav", output[0]["generated_audio"], output[0]["sampling_rate"])
    written, rate = sf.read(tmp_path / "generated_audio.wav")
    assert rate == 24_000
    assert np.abs(written).max() > 0.01
    heard = pipe(messages, fps=1, load_audio_from_video=True, return_tensors=True, **asked)[0]["generated_token_ids"]
    seen = pipe(messages, fps=1, return_tensors=True, **asked)[0]["generated_token_ids"]
    assert len(heard) - len(seen) == 13 + 2  # 0.5 s of sound, as AAC has it, where it begins and where it ends
    more = pipe(messages, fps=2, return_tensors=True, **asked)[0]["generated_token_ids"]
    assert len(more) - len(seen) == 2 * 4  # four frames more are two pairs
    assert len(pipe(messages, num_frames=8, return_tensors=True, **asked)[0]["generated_token_ids"]) == len(more)


def test_a_whole_video_past_the_limit_asks_for_fps(pipe: AnyToAnyPipeline) -> None:
    film = many_frames(1000)
    chat = [{"role": "user", "content": [{"type": "video", "video": film}]}]
    with pytest.raises(ValueError, match=r"videos\[0\]: 1000 frames, the limit is 768; set fps"):
        pipe(chat)
    with pytest.raises(ValueError, match=r"processor_options\.fps = -1"):
        pipe(chat, fps=-1)


def test_generate_gives_ids_unless_audio_is_asked_for(model: MultimodalModel, processor: MultimodalProcessor) -> None:
    inputs = processor("the quick brown fox")
    ids = model.generate(**inputs, max_new_tokens=3)
    assert isinstance(ids, torch.Tensor)
    assert ids.shape == (1, inputs.input_ids.shape[1] + 3)
    both = model.generate(**inputs, max_new_tokens=30, generation_mode="audio", speaker="Ethan", eos_token_id=1, seed=1)
    assert isinstance(both, tuple)
    assert torch.equal(both[0][:, : ids.shape[1]], ids)
    assert isinstance(both[1], torch.Tensor)
    assert both[1].dtype == torch.float32
    assert both[1].dim() == 1


def test_several_rows_of_different_length(model: MultimodalModel, processor: MultimodalProcessor) -> None:
    texts = ["the fox", "a list of words and numbers"]
    inputs = processor(texts)
    assert inputs["attention_mask"].sum() < inputs.input_ids.numel()
    ids = model.generate(**inputs, max_new_tokens=5, eos_token_id=1)
    assert isinstance(ids, torch.Tensor)
    for row, text in zip(ids, texts, strict=True):
        alone = model.generate(**processor(text), max_new_tokens=5, eos_token_id=1)
        assert isinstance(alone, torch.Tensor)
        assert row[: alone.shape[1]].tolist() == alone[0].tolist()
    spoken = model.generate(**inputs, max_new_tokens=20, generation_mode="audio", seed=1)
    assert isinstance(spoken, tuple)
    assert isinstance(spoken[1], list)
    assert len(spoken[1]) == 2


FORMS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "path": lambda folder: {"type": "image", "path": str(folder / "picture.png")},
    "bytes": lambda folder: {"type": "image", "image": png(1)},
    "array": lambda folder: {"type": "image", "image": image(1)},
    "url": lambda folder: {"type": "image", "url": "URL/picture.png"},
    "url as path": lambda folder: {"type": "image", "path": "URL/picture.png"},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_in_every_form(form: str, pipe: AnyToAnyPipeline, media: MediaServer, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(png(1))
    part = {
        name: value.replace("URL", media.url) if isinstance(value, str) else value
        for name, value in FORMS[form](tmp_path).items()
    }
    chat: list[dict[str, Any]] = [{"role": "user", "content": [part, {"type": "text", "text": "Describe it."}]}]
    text = pipe(chat, max_new_tokens=8, return_full_text=False)[0]["generated_text"]
    chat[0]["content"][0] = {"type": "image", "image": png(1)}
    assert text == pipe(chat, max_new_tokens=8, return_full_text=False)[0]["generated_text"]


def test_texts_chats_and_dicts_one_and_several(pipe: AnyToAnyPipeline) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 5}
    chat = [{"role": "user", "content": "hello"}]
    one = pipe("the quick fox", **asked)
    assert one[0]["generated_text"].startswith("the quick fox")
    assert one[0]["input_text"] == "the quick fox"
    both = pipe(["the quick fox", "a dog"], **asked)
    assert both == [*one, *pipe("a dog", **asked)]
    assert pipe([chat, chat], **asked) == [pipe(chat, **asked), pipe(chat, **asked)]
    seen, heard = PLACES["qwen2.5-omni"]
    beside = pipe(f"see {seen} hear {heard}", images=image(1), audio=(sound(1), RATE), **asked)
    given = {"text": f"see {seen} hear {heard}", "images": [image(1)], "audio": [wav(1)]}
    assert pipe(given, **asked) == beside
    assert pipe([given], **asked) == [beside]


def test_an_answer_that_is_gone_on_with(pipe: AnyToAnyPipeline) -> None:
    chat = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{"type": "text", "text": "the fox"}]},
    ]
    went_on = pipe(chat, max_new_tokens=5)[0]["generated_text"]
    new = pipe(chat, max_new_tokens=5, return_full_text=False)[0]["generated_text"]
    assert went_on[-1] == {"role": "assistant", "content": [{"type": "text", "text": "the fox" + new}]}
    assert len(pipe(chat, max_new_tokens=5, continue_final_message=False)[0]["generated_text"]) == 3


def test_ids_instead_of_text_and_what_ends_a_text(pipe: AnyToAnyPipeline) -> None:
    ids = pipe("the quick fox", max_new_tokens=6, return_tensors=True)[0]["generated_token_ids"]
    whole = pipe("the quick fox", max_new_tokens=6, return_full_text=False)[0]["generated_text"]
    assert (
        AutoProcessor.from_pretrained(pipe.model.served.model.path).decode(ids[-6:], skip_special_tokens=True) == whole
    )
    stopped = pipe("the quick fox", max_new_tokens=6, return_full_text=False, stop_sequence=whole[1])
    assert stopped[0]["generated_text"] == whole[: whole.index(whole[1]) + 1]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"generation_mode": "image"}, "generation_mode = 'image': this model gives text and audio"),
        ({"generation_mode": "smell"}, "must be one of text, audio, image"),
        ({"generation_mode": "audio", "return_full_text": True}, "return_full_text: is for generation_mode = 'text'"),
        ({"generation_mode": "audio", "return_tensors": True}, "return_tensors: is for generation_mode = 'text'"),
        ({"generation_mode": "audio", "speaker": "Nobody"}, "speaker = 'Nobody': must be one of Chelsie, Ethan"),
        ({"return_full_text": True, "return_tensors": True}, "exclude each other"),
        ({"max_new_tokens": 3, "generate_kwargs": {"max_new_tokens": 3}}, "max_new_tokens: is in generate_kwargs, too"),
        ({"temperature": -1.0, "do_sample": True}, "temperature"),
        ({"images": object()}, "is no path"),
        ({"text": None}, "give a text, a chat, or images"),
        ({"text": 3}, "must be a text, a chat, or a list of them"),
        ({"text": {"text": "a", "smell": 1}}, "smell: a prompt has text, images, audio, videos"),
        ({"text": [{"role": "nobody", "content": ""}]}, r"messages\[0\].role = 'nobody'"),
        ({"text": [{"role": "user", "content": 3}]}, "must be a text, or a list of parts"),
        ({"text": [{"role": "user", "content": [{"type": "smell"}]}]}, r"content\[0\].type = 'smell'"),
        ({"text": [{"role": "user", "content": [{"type": "image"}]}]}, "has one of image, url, path, base64"),
        ({"text": [{"role": "user", "content": [{"type": "text"}]}]}, "a part of type text has a text"),
        ({"text": [{"role": "user", "content": "a"}], "images": png(1)}, "are in the messages of a chat"),
    ],
)
def test_what_cannot_be_done_is_said(pipe: AnyToAnyPipeline, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        pipe(**{"text": "hello", **asked})


def test_private_addresses_are_never_fetched(pipe: AnyToAnyPipeline) -> None:
    with serving_media() as media:
        media.files["/throat.wav"] = wav(1)
        with pytest.raises(ValueError, match="at a private address"):
            pipe(hearing(f"{media.url}/throat.wav"))
        assert not media.asked


def test_an_unknown_argument_names_the_nearest(pipe: AnyToAnyPipeline) -> None:
    with pytest.raises(TypeError, match=r"unknown argument 'max_tokens'; did you mean 'max_new_tokens'\?"):
        pipe("hello", max_tokens=3)


def test_a_model_without_voices_still_writes(omni: Path, tmp_path: Path) -> None:
    for path in omni.iterdir():
        if path.name != "spk_dict.pt":
            (tmp_path / path.name).symlink_to(path)
    with pipeline("any-to-any", model=tmp_path, transport="thread") as pipe:
        assert pipe("the fox", max_new_tokens=3)[0]["generated_text"].startswith("the fox")
        with pytest.raises(ValueError, match=r"this model gives text; it has no spk_dict.pt with its voices"):
            pipe("the fox", generation_mode="audio")


def test_a_model_whose_voices_cannot_be_read_is_refused(omni: Path, tmp_path: Path) -> None:
    for path in omni.iterdir():
        if path.name != "spk_dict.pt":
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / "spk_dict.pt").write_bytes(b"nothing")
    why = r"spk_dict.pt: it is broken, or has more than tensors and numbers"
    with pipeline("any-to-any", model=tmp_path, transport="thread") as pipe, pytest.raises(StartFailed, match=why):
        pipe("the fox", max_new_tokens=3)


def test_sampling_is_the_checkpoints_until_a_call_says_otherwise() -> None:
    params = Sampling.of({"top_p": 0.5}, {"do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.9}).params()
    assert (params.temperature, params.top_k, params.top_p) == (0.7, 20, 0.5)
    greedy = Sampling.of({"max_new_tokens": 3, "do_sample": False}, {"do_sample": True, "temperature": 0.7}).params()
    assert (greedy.temperature, greedy.max_new_tokens) == (0.0, 3)
    assert Sampling.of({}, {}).params().max_new_tokens == 256
    assert Sampling.of({"num_beams": 3}, {}).params().beam_width == 3


def test_a_text_model_and_a_chat_without_parts(tmp_path: Path) -> None:
    make_tiny_text(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": [{"type": "text", "text": "hello"}]}]
    assert processor.apply_chat_template(chat, add_generation_prompt=True) == read("hello")
    assert processor.apply_chat_template([chat, chat]) == [read("hello").removesuffix("<|start|>assistant\n")] * 2
    with pytest.raises(ValueError, match="no place for images, sounds or films"):
        processor.apply_chat_template([{"role": "user", "content": [{"type": "image", "image": png(1)}]}])
    with pytest.raises(ValueError, match='must be "pt"'):
        processor("hello", return_tensors="np")
    with AutoModelForMultimodalLM.from_pretrained(tmp_path, transport="thread") as model:
        assert model.output_modalities == ("text",)
        with pytest.raises(ValueError, match="at least one token"):
            model.generate([[]])


def test_a_model_that_is_there_and_where_it_runs(model: MultimodalModel, tmp_path: Path) -> None:
    assert model.device == torch.device("cpu")
    assert model.to("cpu") is model
    with pytest.raises(ValueError, match="it runs on cpu; move it before it is used"):
        model.to("cuda:1")
    assert device_name(-1) == "cpu"
    assert device_name(1) == "cuda:1"
    for wrong in ("meta", "nowhere"):
        with pytest.raises(ValueError, match="must be cpu, cuda or cuda:N"):
            device_name(wrong)
    with pytest.raises(ValueError, match="task = 'chat'"):
        pipeline("chat", model=model)
    with pytest.raises(ValueError, match="name a folder"):
        pipeline("any-to-any")
    with pytest.raises(ValueError, match="attn_implementation = 'fast'"):
        AutoModelForMultimodalLM.from_pretrained(tmp_path, attn_implementation="fast")
    with pytest.raises(ValueError, match="dtype = 'int3'"):
        AutoModelForMultimodalLM.from_pretrained(model.served.model.path, dtype="int3")
    with pytest.raises(ValueError, match=r"no config.json"):
        AutoModelForMultimodalLM.from_pretrained(tmp_path)


def test_a_chat_knows_its_media() -> None:
    chat = Chat.of(hearing("a.wav"))
    assert chat.media.audios == ("a.wav",)
    assert chat.parts[0]["content"][0] == {"type": "audio", "audio": ""}
    assert not chat.ends_in_answer
