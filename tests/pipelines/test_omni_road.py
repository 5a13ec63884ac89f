"""A text and its sound in one request: client, dispatcher, worker, and a whole Qwen2.5-Omni of tiny weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from max_engines.omni import OmniEngine, OmniSettings, load_omni
from max_interfaces import (
    Attempt,
    Chunk,
    ConfigError,
    FailureKind,
    GenerationStatus,
    InvalidRequest,
    MessageRole,
    RequestFailed,
    RequestID,
    SamplingParams,
    TextContentPart,
    TextGenerationOutput,
    TextGenerationRequest,
    TextGenerationRequestMessage,
)
from max_interfaces.protocols import SequenceStart
from max_interfaces.text import MediaContentPart, MediaKind
from max_pipelines.client import Client
from max_pipelines.client.outputs import join_texts
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.omni.build import build
from max_pipelines.registry import prove
from tests.engines.tiny_processors import png, save_speaking, wav
from tests.pipelines.test_text_road import output_of

TOKENS = 30
OPTIONS: dict[str, Any] = {"temperature": 0, "steps": 2}
PROMPT = "the quick brown fox"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Serves a model that speaks."""
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(save_speaking(tmp_path_factory.mktemp("omni"))), dtype="float32"),
        pipeline=PipelineConfig(kind="omni", options=OPTIONS),
        engine=EngineConfig(max_batch=8),
        workers=WorkersConfig(transport="thread"),
    )


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[Client]:
    """A client of it."""
    with Client.embedded(config) as client:
        yield client


def ask(prompt: str = PROMPT, voice: str | None = "Ethan", **fields: Any) -> TextGenerationRequest:
    params = SamplingParams(temperature=0, max_new_tokens=TOKENS, ignore_eos=True, seed=7)
    return TextGenerationRequest(RequestID(), "tiny", prompt, **{"sampling_params": params, "voice": voice, **fields})


def heard(outputs: list[TextGenerationOutput]) -> NDArray[np.float32]:
    pieces = [output.audio_data for output in outputs if output.audio_data is not None]
    return np.concatenate([np.zeros(0, np.float32), *pieces])


def test_a_text_and_its_sound_come_side_by_side(client: Client, config: Config) -> None:
    outputs = list(client.stream(ask()))
    sounding = [at for at, output in enumerate(outputs) if output.audio_data is not None]
    writing = [at for at, output in enumerate(outputs) if output.tokens]
    assert sounding[0] < writing[-1]
    assert {output.sample_rate for output in outputs} == {24_000}
    assert outputs[-1].final_status is GenerationStatus.MAXIMUM_LENGTH
    whole = client.generate(ask())
    assert whole.text == "".join(output.text for output in outputs)
    assert whole.audio_data is not None
    assert np.array_equal(whole.audio_data, heard(outputs))
    assert np.abs(whole.audio_data).max() > 0.01


def test_they_are_the_engines_own(client: Client, config: Config) -> None:
    request = ask(return_prompt=True)
    whole = client.generate(request)
    talker = SamplingParams(temperature=0, top_k=40, top_p=0.8, repetition_penalty=1.05, max_new_tokens=4096)
    engine = OmniEngine(load_omni(config.model.location), None, OmniSettings(talker, steps=2))
    key = RequestID()
    engine.add(SequenceStart(key, whole.prompt_tokens, request.sampling_params, 7, voice="Ethan"))
    tokens: list[int] = []
    samples: list[Any] = []
    done = False
    while not done:
        delta = engine.step([key]).get(key)
        if delta is not None:
            tokens += delta.tokens
            samples += [] if delta.samples is None else [delta.samples]
            done = delta.status.is_done
    assert whole.tokens == tuple(tokens)
    assert whole.audio_data is not None
    assert np.array_equal(whole.audio_data, np.concatenate(samples))


def test_without_a_voice_it_is_a_text_like_any_other(client: Client) -> None:
    spoken, written = client.generate(ask()), client.generate(ask(voice=None))
    assert written.tokens == spoken.tokens
    assert written.audio_data is None
    assert written.sample_rate == 0


def test_after_an_image_and_a_sound(client: Client) -> None:
    content = (MediaContentPart(MediaKind.IMAGE), TextContentPart("and"), MediaContentPart(MediaKind.AUDIO))
    request = TextGenerationRequest(
        RequestID(),
        "tiny",
        messages=(TextGenerationRequestMessage(MessageRole.USER, content),),
        images=(png(1),),
        audios=(wav(1),),
        sampling_params=ask().sampling_params,
        voice="Chelsie",
    )
    whole = client.generate(request)
    assert len(whole.tokens) == TOKENS
    assert whole.tokens == client.generate(replace(request, request_id=RequestID(), voice=None)).tokens


def test_what_is_served_is_told(client: Client) -> None:
    (info,) = client.models
    assert info.voices == ("Chelsie", "Ethan")
    assert info.sample_rate == 24_000
    with pytest.raises(InvalidRequest, match="it speaks what it writes"):
        list(client.speak("hello"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"voice": "Nobody"}, "must be one of Chelsie, Ethan"),
        ({"stop": ("x",)}, "a spoken text ends by its ids"),
        ({"sampling_params": SamplingParams(n=2)}, "one text is spoken"),
        ({"sampling_params": SamplingParams(beam_width=2)}, "one text is spoken"),
    ],
)
def test_what_cannot_be_spoken_is_refused(client: Client, fields: dict[str, Any], why: str) -> None:
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


def test_another_worker_goes_on_at_any_chunk(config: Config) -> None:
    request = ask()
    chunks = chunks_of(config, Attempt(request, 7))
    whole = heard([output_of(chunk) for chunk in chunks])
    assert [chunk.first_sample for chunk in chunks] == [
        sum(chunk.samples for chunk in chunks[:at]) for at in range(len(chunks))
    ]
    for at in (1, len(chunks) // 2, len(chunks) - 1):
        known = tuple(token for chunk in chunks[:at] for token in chunk.tokens)
        first = chunks[at].first_sample
        rest = chunks_of(config, Attempt(request, 7, 2, known, first, at))
        outputs = [output_of(chunk) for chunk in rest]
        joined = join_texts([output_of(chunk) for chunk in chunks[:at]] + outputs)[0]
        assert joined.tokens == join_texts([output_of(chunk) for chunk in chunks])[0].tokens
        assert rest[0].first_sample == first
        assert np.array_equal(heard(outputs), whole[first:])


def test_its_canary_speaks(config: Config) -> None:
    served = build(config)
    try:
        assert served.canary is not None
        assert served.canary.voice == "Chelsie"
        prove(served)
        assert served.gauges()["free_talker_blocks"] == served.gauges()["talker_blocks"]
    finally:
        served.close()


def test_a_model_that_does_not_speak_is_refused_at_the_start(config: Config, tmp_path: Path) -> None:
    from tests.tiny_text import make_tiny_text

    make_tiny_text(tmp_path)
    with pytest.raises(ConfigError, match="does not speak"):
        build(replace_model(config, str(tmp_path)))
    with pytest.raises(ConfigError, match="runs on torch alone"):
        build(replace_engine(config, "vllm"))


def replace_model(config: Config, path: str) -> Config:
    return Config(model=ModelConfig(name="tiny", path=path), pipeline=config.pipeline, http=None)


def replace_engine(config: Config, kind: str) -> Config:
    return Config(model=config.model, pipeline=config.pipeline, engine=EngineConfig(kind=kind), http=None)
