"""The whole road on real parts: client, dispatcher, worker processes, engine, codec. Tiny random weights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    FailureKind,
    GenerationStatus,
    RequestFailed,
    RequestID,
    SamplingParams,
)
from max_pipelines.client import AsyncClient, Client
from max_pipelines.config import Config


def request(text: str = "hello there", seed: int = 1, **fields: object) -> AudioGenerationRequest:
    params = SamplingParams(seed=seed)
    return AudioGenerationRequest(RequestID(), "tiny", text, sampling_params=params, **fields)  # type: ignore[arg-type]


def with_workers(config: Config, **fields: object) -> Config:
    return msgspec.structs.replace(config, workers=msgspec.structs.replace(config.workers, **fields))


def audio(outputs: list[AudioGenerationOutput]) -> NDArray[np.float32]:
    return np.concatenate([output.audio_data for output in outputs])


@pytest.fixture(scope="module", params=["process", "thread"])
def client(request: pytest.FixtureRequest, tiny_voice: Config) -> object:
    with Client.embedded(with_workers(tiny_voice, transport=request.param)) as client:
        yield client


def test_it_speaks_in_chunks(client: Client) -> None:
    outputs = list(client.stream(request()))
    assert len(outputs) >= 3
    assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
    assert [output.is_done for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert outputs[0].audio_data.size == 96  # one frame: as early as can be
    assert client.models[0].voices == ("ann", "bob")


def test_the_same_seed_says_it_in_the_same_way(client: Client) -> None:
    first, again, other = (audio(list(client.stream(request(seed=seed)))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


def test_streaming_false_equals_the_joined_stream(client: Client) -> None:
    streamed = audio(list(client.stream(request())))
    (whole,) = client.stream(request(streaming=False))
    np.testing.assert_allclose(whole.audio_data, streamed, atol=1e-5)


def test_generate_gives_it_in_one_piece(client: Client) -> None:
    whole = client.generate(request())
    np.testing.assert_allclose(whole.audio_data, audio(list(client.stream(request()))), atol=1e-5)
    assert whole.metadata.duration == whole.audio_data.size / 8000


@pytest.mark.parametrize(
    ("fields", "kind", "says"),
    [
        ({"voice": "eve"}, FailureKind.INVALID_REQUEST, "there are: ann, bob"),
        ({"text": "a b c d e f g h i j k l m"}, FailureKind.INVALID_REQUEST, "13 words"),
        ({"audio_prompt_tokens": [64]}, FailureKind.INVALID_REQUEST, "no reference voice"),
        ({"speed": 2.0}, FailureKind.INVALID_REQUEST, "one speed"),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_the_reason(
    client: Client, fields: dict[str, object], kind: FailureKind, says: str
) -> None:
    with pytest.raises(RequestFailed, match=says) as caught:
        client.generate(request(**fields))  # type: ignore[arg-type]
    assert caught.value.failure.kind is kind


def test_a_model_nobody_serves_is_refused_with_those_that_are(client: Client) -> None:
    with pytest.raises(RequestFailed, match="served: tiny") as caught:
        client.generate(AudioGenerationRequest(RequestID(), "huge", "hello"))
    assert caught.value.failure.kind is FailureKind.UNKNOWN_MODEL


def test_a_second_request_with_a_live_id_is_refused_and_the_first_goes_on(client: Client) -> None:
    first = request()
    outputs = client.stream(first)
    heard = [next(outputs)]
    with pytest.raises(RequestFailed) as caught:
        client.generate(first)
    assert caught.value.failure.kind is FailureKind.DUPLICATE_ID
    heard += outputs
    assert heard[-1].final_status is GenerationStatus.END_OF_SEQUENCE


def test_speak_joins_a_long_text(client: Client) -> None:
    outputs = list(client.speak("It is late. We go home, and on the way we buy some bread, and milk, and 12 eggs!"))
    assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
    assert [output.is_done for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert audio(outputs).size > 3 * 12 * 96


@pytest.mark.parametrize(("text", "voice", "says"), [("  ", None, "nothing to say"), ("hi", "eve", "ann, bob")])
def test_speak_refuses_before_it_sends(client: Client, text: str, voice: str | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        list(client.speak(text, voice=voice))


async def test_thirty_two_at_once_on_two_workers_are_each_as_if_alone(tiny_voice: Config) -> None:
    async def spoken(client: AsyncClient, seed: int) -> list[AudioGenerationOutput]:
        stream: AsyncIterator[AudioGenerationOutput] = client.stream(request(f"number {'abcdefgh'[seed % 8]}", seed))
        return [output async for output in stream]

    async with AsyncClient.embedded(with_workers(tiny_voice, count=2)) as client:
        together = await asyncio.gather(*(spoken(client, seed) for seed in range(32)))
        for seed, outputs in enumerate(together):
            assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
            if seed % 4:
                continue
            alone = await spoken(client, seed)
            tails = (outputs[-1].buffer_speech_tokens, alone[-1].buffer_speech_tokens)
            np.testing.assert_array_equal(*tails)
            np.testing.assert_allclose(audio(outputs), audio(alone), atol=1e-5)
