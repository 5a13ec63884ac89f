"""The whole road of images and sounds on real parts: client, dispatcher, worker, processor, engine. Tiny weights."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedModel

from max_engines.engine import Engine
from max_engines.media import Slices
from max_engines.media.processor import MediaProcessor
from max_engines.tokenizer import load_tokenizer
from max_interfaces import (
    Attempt,
    FailureKind,
    GenerationStatus,
    MessageRole,
    RequestFailed,
    RequestID,
    SamplingParams,
    TextContentPart,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_interfaces.text import MediaContentPart, MediaKind
from max_interfaces.values import Json
from max_pipelines.client import AsyncClient, Client
from max_pipelines.client.outputs import join_texts
from max_pipelines.config import MediaConfig
from max_pipelines.engines import build_generator
from max_pipelines.media import MediaLimits, read_image
from max_pipelines.text import perceiving
from max_pipelines.text.build import build, canary_of, serving
from max_pipelines.text.pipeline import ENCODERS_S, LAYER_S
from tests.engines.tiny_multimodal import plain_multimodal, said_by_transformers
from tests.engines.tiny_processors import PLACES, image, png, serving_checkpoint, shown_by_transformers, sound, wav
from tests.pipelines.test_text_road import chunks_of, output_of
from tests.tiny_text import BEGIN

COUNT, DEEP = 10, 5
SEES, HEARS = MediaContentPart(MediaKind.IMAGE), MediaContentPart(MediaKind.AUDIO)
Part = str | MediaContentPart


def params(**fields: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 0.0, "max_new_tokens": COUNT, "ignore_eos": True, **fields})


def chat(
    *parts: Part, images: Sequence[bytes] = (), audios: Sequence[bytes] = (), **fields: Any
) -> TextGenerationRequest:
    """One message of these parts."""
    content = tuple(TextContentPart(part) if isinstance(part, str) else part for part in parts)
    options = {"sampling_params": params(), "images": tuple(images), "audios": tuple(audios), **fields}
    message = TextGenerationRequestMessage(MessageRole.USER, content)
    return TextGenerationRequest(RequestID(), "tiny", messages=(message,), **options)


def deep(config: Any) -> None:
    """Encoders of many layers."""
    config.vision_config.num_hidden_layers = DEEP


def prompt(given: str | Sequence[int], images: Sequence[bytes] = (), **fields: Any) -> TextGenerationRequest:
    options = {"sampling_params": params(), "images": tuple(images), **fields}
    return TextGenerationRequest(RequestID(), "tiny", given if isinstance(given, str) else tuple(given), **options)


def read(*parts: str) -> str:
    """What the template makes of one message."""
    return f"<s><|start|>user\n{''.join(parts)}<|turn|>\n<|start|>assistant\n"


class Served(NamedTuple):
    """A model behind the whole road, in this process, and as transformers runs it."""

    folder: Path
    client: Client
    plain: PreTrainedModel

    def said(self, text: str, images: Sequence[Any] = (), sounds: Sequence[Any] = ()) -> tuple[int, ...]:
        """What transformers says after a text with placeholders."""
        return said_by_transformers(self.plain, shown_by_transformers(self.folder, text, images, sounds), COUNT)


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    """A served model, by its name."""
    clients: list[Client] = []

    @cache
    def served(name: str) -> Served:
        folder = tmp_path_factory.mktemp(name)
        clients.append(Client.embedded(serving_checkpoint(folder, name, transport="thread")))
        return Served(folder, clients[-1].__enter__(), plain_multimodal(folder))

    yield served
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def llava(serve: Callable[[str], Served]) -> Served:
    return serve("llava")


@pytest.mark.parametrize("name", PLACES)
def test_a_conversation_is_answered_as_transformers_does(name: str, serve: Callable[[str], Served]) -> None:
    served, (seen, heard) = serve(name), PLACES[name]
    given: dict[str, Any] = {"images": [png(1), png(2, 64, 40)] if seen else [], "audios": [wav(1)] if heard else []}
    parts: list[Part] = ["what is "]
    if seen:
        parts += [SEES, " beside ", SEES]
    if heard:
        parts.append(HEARS)
    parts.append("?")
    written = ["what is ", *([seen, " beside ", seen] if seen else []), heard, "?"]
    output = served.client.generate(chat(*parts, **given))
    expected = served.said(read(*written), [image(1), image(2, 64, 40)] if seen else [], [sound(1)] if heard else [])
    assert output.tokens == expected


def test_a_prompt_as_text_or_ids_has_the_models_own_placeholders(llava: Served) -> None:
    text = "the fox <img> and <img>"
    expected = llava.said(text, [image(1), image(2)])
    ids = load_tokenizer(llava.folder).encode(text, parse_special_tokens=True)
    for given in (text, ids):
        output = llava.client.generate(prompt(given, [png(1), png(2)], return_prompt=True))
        assert output.tokens == expected
        assert output.num_prompt_tokens == len(output.prompt_tokens) == len(ids) + 2 * 15


def test_a_tokenizer_that_begins_texts_does_so_once(tmp_path: Path) -> None:
    config = serving_checkpoint(tmp_path, "llava", transport="thread")
    tokenizer = load_tokenizer(tmp_path).inner
    begun = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BEGIN)])
    tokenizer.backend_tokenizer.post_processor = begun
    tokenizer.save_pretrained(tmp_path)
    with Client.embedded(config) as client:
        for given in ("see <img>", tokenizer.encode("see <img>")):
            output = client.generate(prompt(given, [png(1)], return_prompt=True))
            assert (output.prompt_tokens[0], output.prompt_tokens.count(BEGIN)) == (BEGIN, 1)


def test_placeholders_in_what_somebody_says_are_text(llava: Served) -> None:
    """Who could write one would move the images of others' messages."""
    asked = chat("look: <img> or ", SEES, images=[png(1)], return_prompt=True)
    output = llava.client.generate(asked)
    placeholder = load_tokenizer(llava.folder).encode("<img>", parse_special_tokens=True)[0]
    assert output.prompt_tokens.count(placeholder) == 16
    assert "look: <img> or " in load_tokenizer(llava.folder).decode(output.prompt_tokens, skip_special_tokens=False)


def test_a_message_that_goes_on_and_one_of_text_alone(llava: Served) -> None:
    said = TextGenerationRequestMessage(MessageRole.ASSISTANT, "it is a")
    first = chat("what is ", SEES, images=[png(1)])
    going_on = replace(
        first, messages=(*first.messages, said), continue_final_message=True, add_generation_prompt=False
    )
    output = llava.client.generate(going_on)
    written = f"{read('what is ', '<img>')}it is a".replace(
        "<|turn|>\n<|start|>assistant", "<|turn|>\n<|start|>assistant"
    )
    assert output.tokens == llava.said(written, [image(1)])
    assert llava.client.generate(chat("hello")).tokens == llava.said(read("hello"))


def mixed(count: int) -> list[TextGenerationRequest]:
    """So many with an image of one of three sizes, and as many of text, in turn."""
    sizes = ((50, 70), (64, 40), (33, 33))
    seeing = [chat(f"{n}: ", SEES, "?", images=[png(n, *sizes[n % 3])]) for n in range(count)]
    return [one for n in range(count) for one in (seeing[n], chat(f"{n}: nothing"))]


async def test_sixteen_of_each_run_in_one_batch_and_say_what_they_say_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    step = Engine.step

    def counted(self: Engine, active: Any) -> Any:
        together.append(len(active))
        return step(self, active)

    monkeypatch.setattr(Engine, "step", counted)
    config = serving_checkpoint(tmp_path, "llava", transport="thread")
    async with AsyncClient.embedded(config) as client:
        asked = [replace(one, sampling_params=params(max_new_tokens=150)) for one in mixed(16)]
        texts = await asyncio.gather(*(client.generate(one) for one in asked))
        assert max(together) == 32
        alone = [await client.generate(replace(one, request_id=RequestID())) for one in asked]
    assert [text.tokens for text in texts] == [text.tokens for text in alone]
    assert len({text.tokens for text in texts}) == 32


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (chat(SEES, images=[b"GIF89a none"]), r"images\[0\]: "),
        (chat(SEES, SEES, images=[png(1), png(1)[:200]]), r"images\[1\]: cannot be decoded as an image"),
        (chat(HEARS, audios=[wav(1)]), "audios: this model takes text and image$"),
        (prompt("none is placed", [png(1)]), "processor refuses them: .*0 <img> tokens and 1 images"),
        (prompt("<img> <img>", [png(1)]), "processor refuses them: .*2 <img> tokens and 1 images"),
        (prompt("<img>" * 16, [png(1)] * 16), "prompt: has 256 tokens, at most 255 fit"),
        (prompt("<img>", [png(1)], sampling_params=params(truncate=20)), "truncate = 20: cannot cut a prompt with"),
        (prompt("<img>", [png(1)], processor_options=Json('{"size": 9}')), "media.processor_options does not allow"),
        (chat(SEES, images=[png(1)], chat_template="{{ messages[0].content }}"), "no place for images, sounds or"),
        (replace(prompt("x"), videos=(b"x",)), "videos: this model takes text and image$"),
    ],
)
def test_what_cannot_be_seen_is_refused_and_nobody_else(asked: TextGenerationRequest, says: str, llava: Served) -> None:
    expected = llava.client.generate(chat("and ", SEES, images=[png(3)])).tokens

    good = [chat("and ", SEES, images=[png(3)]) for _ in range(3)]
    with ThreadPoolExecutor(4) as callers:
        running = [
            callers.submit(llava.client.generate, one) for one in (*good, replace(asked, request_id=RequestID()))
        ]
    *texts, failed = (job.exception() or job.result() for job in running)
    assert [text.tokens for text in texts if isinstance(text, TextGenerationOutput)] == [expected] * 3
    assert isinstance(failed, RequestFailed)
    assert failed.failure.kind is FailureKind.INVALID_REQUEST
    with pytest.raises(RequestFailed, match=says):
        raise failed


def test_a_model_without_its_processor_reads_text_and_says_why(tmp_path: Path) -> None:
    config = serving_checkpoint(tmp_path, "llava", transport="thread")
    (tmp_path / "preprocessor_config.json").unlink()
    with Client.embedded(config) as client:
        assert client.generate(chat("hello")).tokens
        with pytest.raises(RequestFailed, match="images: cannot read the processor of"):
            client.generate(chat(SEES, images=[png(1)]))


def test_a_processors_options_where_the_server_allows_them(tmp_path: Path) -> None:
    config = serving_checkpoint(tmp_path, "qwen2.5-vl", transport="thread")
    config = msgspec.structs.replace(config, media=MediaConfig(processor_options=True, max_pixels=5000))
    with Client.embedded(config) as client:
        few = chat(
            SEES, images=[png(1)], processor_options=Json('{"size": {"shortest_edge": 256, "longest_edge": 1024}}')
        )
        many = chat(SEES, images=[png(1)])
        assert client.generate(few).num_prompt_tokens < client.generate(many).num_prompt_tokens
        with pytest.raises(
            RequestFailed, match=r"processor_options\.colour: this model's processor takes .*max_pixels"
        ):
            client.generate(chat(SEES, images=[png(1)], processor_options=Json('{"colour": 1}')))
        with pytest.raises(RequestFailed, match=r"images\[0\]: has 100 × 51 pixels, the limit is 5000"):
            client.generate(chat(SEES, images=[png(1, 51, 100)]))


def test_what_all_of_a_request_take_together_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perceiving, "MediaLimits", partial(MediaLimits, request_pixels=2 * 50 * 70))
    with Client.embedded(serving_checkpoint(tmp_path, "llava", transport="thread")) as client:
        for _ in range(2):
            assert client.generate(chat(SEES, SEES, images=[png(1), png(2)])).tokens
            with pytest.raises(RequestFailed, match=r"images\[2\]: all images and films of a request have 7000") as why:
                client.generate(chat(SEES, SEES, SEES, images=[png(1), png(2), png(3)]))
            assert why.value.failure.kind is FailureKind.INVALID_REQUEST  # so no other worker tries it


def test_reading_ends_when_nobody_waits(llava: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return read_image(*given, **named)

    monkeypatch.setattr(perceiving, "read_image", slowly)
    perceiver = perceiving.Perceiver(MediaProcessor.open(llava.folder))
    given_up = perceiver.submit(prompt("<img>", [png(1)]), "<img>", load_tokenizer(llava.folder).encode, COUNT)
    assert begun.wait(60)
    given_up.cancel()
    go_on.set()
    given_up.wait(60)
    with pytest.raises(ValueError, match=r"images\[0\]: is read no further"):
        given_up.poll()
    perceiver.close()


@pytest.mark.parametrize(("pauses", "announces"), [(True, LAYER_S), (False, ENCODERS_S)])
def test_a_step_in_which_encoders_may_run_is_announced(pauses: bool, announces: float, tmp_path: Path) -> None:
    """A worker that is silent for longer than usual would be taken for hung."""
    config = serving_checkpoint(tmp_path, "llava")
    generator = build_generator(config)
    served = serving(config, generator if pauses else replace(generator, encoding=None), canary_of(config.model))
    asked, plain = chat(SEES, images=[png(1)]), chat("hello")
    try:
        served.pipeline.admit(Attempt(plain, seed=5))
        assert served.step_s() == 0
        served.pipeline.admit(Attempt(asked, seed=5))
        announced = {served.step_s()}  # read already, it may be encoded and written on in the very next step
        chunks: list[Any] = []
        while not any(chunk.request_id == asked.request_id for chunk in chunks):
            chunks = [*served.pipeline.execute([asked.request_id])]
            announced.add(served.step_s())
        assert max(announced) == announces
        assert served.step_s() == 0
    finally:
        served.close()


async def test_an_image_that_takes_long_to_read_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slowly(*given: Any, **named: Any) -> Any:
        assert go_on.wait(60)
        return read_image(*given, **named)

    monkeypatch.setattr(perceiving, "read_image", slowly)
    async with AsyncClient.embedded(serving_checkpoint(tmp_path, "llava", transport="thread")) as client:
        seeing = asyncio.ensure_future(client.generate(chat(SEES, images=[png(1)])))
        given_up = chat(SEES, images=[png(2)])
        waiting = asyncio.ensure_future(client.generate(given_up))
        for number in range(3):
            assert (await client.generate(chat(f"hello {number}"))).tokens
        client.cancel(given_up.request_id)
        assert (await waiting).final_status is GenerationStatus.CANCELLED
        assert not seeing.done()
        go_on.set()
        assert len((await seeing).tokens) == COUNT


def test_texts_go_on_while_encoders_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices: list[Slices[Any]] = []
    advance = Slices.advance

    def counted(self: Slices[Any], seconds: float) -> bool:
        slices.append(self)
        return advance(self, seconds)

    monkeypatch.setattr("max_pipelines.text.pipeline.BEGIN_S", 0)  # a slice is one layer
    monkeypatch.setattr(Slices, "advance", counted)
    served = build(serving_checkpoint(tmp_path, "llava", grow=deep))
    pipeline = served.pipeline
    text, seeing = prompt("hello", sampling_params=params(max_new_tokens=100)), prompt("see <img>", [png(1)])
    given_up = prompt("see <img>", [png(2)])
    try:
        for one in (seeing, given_up):
            pipeline.admit(Attempt(one, seed=5))
        while not slices:
            pipeline.execute([seeing.request_id])
        pipeline.admit(Attempt(text, seed=5))
        told: set[RequestID] = set()
        while seeing.request_id not in told:
            told = {chunk.request_id for chunk in pipeline.execute([seeing.request_id, text.request_id])}
            assert text.request_id in told
        assert len(slices) > DEEP
        while slices[-1] is slices[0]:
            pipeline.execute([given_up.request_id])
        pipeline.release(given_up.request_id)
        assert not any(thread.name == "encoders" for thread in threading.enumerate())
    finally:
        served.close()


@pytest.mark.parametrize("done", [1, 5])
def test_another_worker_goes_on_with_what_was_said_of_an_image(done: int, tmp_path: Path) -> None:
    config = serving_checkpoint(tmp_path, "llava")
    sampled = params(temperature=0.9, n=2, max_new_tokens=20)
    attempt = Attempt(chat("what is ", SEES, images=[png(1)], sampling_params=sampled), seed=5)
    expected = join_texts([output_of(chunk) for chunk in chunks_of(config, attempt)])
    heard = list(islice(chunks_of(config, attempt), done))
    tokens = tuple(token for chunk in heard for token in chunk.tokens)
    rest = chunks_of(config, msgspec.structs.replace(attempt, number=2, tokens=tokens, next_seq=len(heard)))
    again = join_texts([output_of(chunk) for chunk in (*heard, *rest)])
    assert [one.tokens for one in again] == [one.tokens for one in expected]
