"""A picture in a request for text: client, dispatcher, worker, and a whole Janus of tiny weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from max_engines.drawing import DrawingEngine, load_drawing
from max_engines.drawing.model import Pixels
from max_engines.media import Slices
from max_interfaces import (
    Attempt,
    Chunk,
    ConfigError,
    FailureKind,
    GenerationStatus,
    MessageRole,
    RequestFailed,
    RequestID,
    SamplingParams,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_interfaces.messages import Delivery, Ended, Start
from max_interfaces.protocols import SequenceStart
from max_interfaces.wire import encode_payload
from max_pipelines.client import Client
from max_pipelines.client.outputs import join_texts
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.omni.build import build
from max_pipelines.registry import prove
from max_pipelines.worker.core import WorkerCore
from tests.engines.tiny_models import run
from tests.engines.tiny_multimodal import DRAWN
from tests.engines.tiny_processors import png, save_with_processor
from tests.pipelines.test_text_road import output_of
from tests.tiny_text import make_tiny_text

PROMPT = "the quick brown fox"
GREEDY = SamplingParams(temperature=0, seed=7)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Serves a model that draws."""
    path = str(save_with_processor(tmp_path_factory.mktemp("janus"), "janus"))
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=path, dtype="float32"),
        pipeline=PipelineConfig(kind="omni"),
        engine=EngineConfig(max_batch=8),
        workers=WorkersConfig(transport="thread"),
    )


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[Client]:
    """A client of it."""
    with Client.embedded(config) as client:
        yield client


def ask(
    prompt: str | tuple[int, ...] | None = PROMPT, guidance: float | None = 5.0, **fields: Any
) -> TextGenerationRequest:
    given = {"sampling_params": GREEDY, "guidance": guidance, **fields}
    return TextGenerationRequest(RequestID(), "tiny", prompt, **given)


def pixels(output: TextGenerationOutput) -> NDArray[np.uint8]:
    assert output.image_data is not None
    return output.image_data


def test_codes_come_as_they_are_chosen_and_the_picture_at_the_end(client: Client) -> None:
    outputs = list(client.stream(ask()))
    assert sum(len(output.tokens) for output in outputs) == DRAWN
    assert len(outputs) > 2
    assert [output.image_data is not None for output in outputs] == [output.is_done for output in outputs]
    assert outputs[-1].final_status is GenerationStatus.MAXIMUM_LENGTH
    assert {output.text for output in outputs} == {""}
    whole = client.generate(ask())
    assert whole.tokens == tuple(token for output in outputs for token in output.tokens)
    assert pixels(whole).shape == (8, 8, 3)
    assert np.array_equal(pixels(whole), pixels(outputs[-1]))


def test_they_are_the_engines_own(client: Client, config: Config) -> None:
    whole = client.generate(ask(return_prompt=True))
    engine = DrawingEngine(load_drawing(config.model.location))
    (deltas,) = run(engine, [SequenceStart(RequestID(), whole.prompt_tokens, GREEDY, 7, guidance=5.0)])
    engine.close()
    assert whole.tokens == tuple(token for delta in deltas for token in delta.tokens)
    assert np.array_equal(pixels(whole), np.array(deltas[-1].picture))


def test_a_conversation_may_be_drawn_and_several_pictures_at_once(client: Client) -> None:
    messages = (TextGenerationRequestMessage(MessageRole.USER, "a fox"),)
    drawn = client.generate(ask(None, messages=messages, return_prompt=True))
    assert client.generate(ask(drawn.prompt_tokens)).tokens == drawn.tokens
    params = SamplingParams(temperature=1.0, top_k=20, n=3, seed=5)
    several = client.generate_all(ask(sampling_params=params))
    assert len({one.tokens for one in several}) == 3
    assert all(one.image_data is not None for one in several)
    assert [one.tokens for one in client.generate_all(ask(sampling_params=params))] == [one.tokens for one in several]


def test_without_guidance_it_is_a_model_like_any_other_that_sees(client: Client) -> None:
    params = SamplingParams(temperature=0, max_new_tokens=9, ignore_eos=True)
    seen = client.generate(ask("see <img> there", None, images=(png(1),), sampling_params=params))
    assert len(seen.tokens) == 9
    assert seen.image_data is None
    assert client.models[0].media == ("image",)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"prompt": "see <img>", "images": (png(1),)}, "images: cannot be had with a picture"),
        ({"stop": ("x",)}, "stop: cannot be had with a picture"),
        ({"token_texts": True}, "token_texts: cannot be had with a picture"),
        ({"sampling_params": SamplingParams(max_new_tokens=5)}, "max_new_tokens = 5: is nothing to a picture"),
        ({"sampling_params": SamplingParams(beam_width=2)}, "beam_width = 2: is nothing to a picture"),
        ({"prompt": (5,) * 245}, "has 246 tokens: at most 239 fit"),
    ],
)
def test_what_cannot_be_drawn_is_refused(client: Client, fields: dict[str, Any], why: str) -> None:
    with pytest.raises(RequestFailed, match=why) as caught:
        client.generate(ask(**fields))
    assert caught.value.failure.kind is FailureKind.INVALID_REQUEST


def chunks_of(config: Config, attempt: Attempt[TextGenerationRequest]) -> list[Chunk[TextGenerationOutput]]:
    served = build(config)
    try:
        served.pipeline.admit(attempt)
        chunks: list[Chunk[TextGenerationOutput]] = []
        while not (chunks and output_of(chunks[-1]).is_done):
            chunks += served.pipeline.execute([attempt.request.request_id])
    finally:
        served.close()
    return chunks


def test_images_are_encoded_in_slices(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[float] = []
    advance = Slices.advance

    def counted(self: Slices[Any], seconds: float) -> bool:
        turns.append(seconds)
        return advance(self, seconds)

    monkeypatch.setattr("max_pipelines.text.pipeline.BEGIN_S", 0)  # a slice is one layer
    monkeypatch.setattr(Slices, "advance", counted)
    assert chunks_of(config, Attempt(ask("see <img> there", None, images=(png(1),)), 7))
    assert len(turns) > 1


def test_another_worker_goes_on_at_any_chunk(config: Config) -> None:
    request = ask()
    chunks = chunks_of(config, Attempt(request, 7))
    whole = join_texts([output_of(chunk) for chunk in chunks])[0]
    for at in (1, len(chunks) // 2, len(chunks) - 1):
        known = tuple(token for chunk in chunks[:at] for token in chunk.tokens)
        rest = chunks_of(config, Attempt(request, 7, 2, known, 0, at))
        joined = join_texts([output_of(chunk) for chunk in (*chunks[:at], *rest)])[0]
        assert joined.tokens == whole.tokens
        assert np.array_equal(pixels(joined), pixels(whole))


def test_a_picture_whose_pixels_fail_fails_beside_a_text_that_goes_on(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [0]

    def never(*_: Any) -> Any:
        calls[0] += 1
        raise RuntimeError("no pixels")

    monkeypatch.setattr(Pixels, "of", never)
    served = build(config)
    try:
        worker = WorkerCore(served, "tiny", links=1, most_bytes=2**20)
        params = SamplingParams(temperature=0, max_new_tokens=120, ignore_eos=True)
        asked = [ask(), TextGenerationRequest(RequestID(), "tiny", PROMPT, sampling_params=params)]
        for number, one in enumerate(asked):
            key = one.request_id.value
            worker.take(Start(key, b"client", 1, 7, 60.0, number), encode_payload([one]), 0.0, 0)
        picture, written = (one.request_id.value for one in asked)
        ends: dict[str, GenerationStatus] = {}
        while len(ends) < 2:
            for _, message, _ in worker.step():
                told = (
                    message.heads if isinstance(message, Delivery) else [message] if isinstance(message, Ended) else ()
                )
                ends |= {one.request_id: one.status for one in told if one.status is not GenerationStatus.ACTIVE}
        assert ends == {picture: GenerationStatus.FAILED, written: GenerationStatus.MAXIMUM_LENGTH}
        assert calls == [1]
    finally:
        served.close()


def test_its_canary_writes(config: Config) -> None:
    served = build(config)
    try:
        prove(served)
        assert served.gauges()["free_blocks"] == served.gauges()["blocks"]
    finally:
        served.close()


def test_what_does_not_draw_refuses_guidance(config: Config, tmp_path: Any) -> None:
    text = changed(config, pipeline=PipelineConfig(kind="text"))
    with Client.embedded(text) as client, pytest.raises(RequestFailed, match=r"guidance = 5.0: this model does not"):
        client.generate(ask())
    with pytest.raises(ConfigError, match="temperature"):
        build(changed(config, pipeline=PipelineConfig(kind="omni", options={"temperature": 0.0})))
    make_tiny_text(tmp_path)
    with pytest.raises(ConfigError, match="does not speak"):
        build(changed(config, model=ModelConfig(name="tiny", path=str(tmp_path))))
