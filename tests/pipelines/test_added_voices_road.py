"""Added voices on the whole road: found without a restart, by every face, and cheap for a long text."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from max_interfaces import (
    Attempt,
    AudioGenerationOutput,
    AudioGenerationRequest,
    FailureKind,
    RequestFailed,
    RequestID,
    SamplingParams,
    TokenDelta,
    TokenGenerator,
)
from max_pipelines.cli import main
from max_pipelines.client import Client
from max_pipelines.config import Config
from max_pipelines.media.access import NOTHING
from max_pipelines.speech.build import build
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.voices.adding import add_voice
from max_pipelines.voices.folder import folder_of
from tests.pipelines.http.facing import PATIENCE_S, Facing, facing
from tests.pipelines.http.test_conversation import say, talking, utterance
from tests.pipelines.test_voices import speech, wav
from tests.tiny_voice import make_tiny_voice

SHORT = {"seed": 3, "max_new_tokens": 90}
SEEDED = SamplingParams(seed=3, max_new_tokens=90)


def with_folder(config: Config, folder: Path) -> Config:
    assert config.speech is not None
    voices = msgspec.structs.replace(config.speech.voices, folder=str(folder))
    workers = msgspec.structs.replace(config.workers, transport="thread")
    changed = msgspec.structs.replace(config.speech, voices=voices)
    return msgspec.structs.replace(config, speech=changed, workers=workers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return make_tiny_voice(tmp_path_factory.mktemp("cloner"), cloning=True)


@pytest.fixture
def config(weights: Config, tmp_path: Path) -> Config:
    return with_folder(weights, tmp_path / "voices")


def add(config: Config, name: str) -> tuple[int, ...]:
    """Add a voice; its speech tokens."""
    add_voice(config, name, wav(speech(0.4)), "a cat sat", NOTHING)
    voice = folder_of(config).find(name)
    assert voice is not None
    return tuple(voice.tokens.tolist())


def audio(outputs: list[AudioGenerationOutput]) -> NDArray[np.float32]:
    return np.concatenate([output.audio_data for output in outputs])


def test_a_voice_added_while_it_serves_is_spoken_in(config: Config) -> None:
    text = "hello there. and a second one."
    with Client.embedded(config) as client:
        assert client.models[0].takes_samples
        with pytest.raises(RequestFailed, match="there is no such voice; there are: ann, bob") as caught:
            list(client.speak(text, voice="cat"))
        assert caught.value.failure.kind is FailureKind.INVALID_REQUEST
        tokens = add(config, "cat")
        cat = audio(list(client.speak(text, voice="cat", sampling_params=SEEDED)))
        given = client.speak(
            text, sampling_params=SEEDED, audio_prompt_tokens=tokens, audio_prompt_transcription="a cat sat"
        )
        np.testing.assert_array_equal(cat, audio(list(given)))
        with pytest.raises(RequestFailed, match="audio_prompt_tokens: voice = 'bob' is another; leave one of them out"):
            list(client.speak(text, voice="bob", audio_prompt_tokens=tokens, audio_prompt_transcription="a cat sat"))
        ann = audio(list(client.speak(text, voice="ann", sampling_params=SEEDED)))
        assert cat.shape != ann.shape or not np.allclose(cat, ann)
        folder_of(config).remove("cat")
        with pytest.raises(RequestFailed, match="there are: ann, bob"):
            list(client.speak(text, voice="cat"))
    add(config, "cow")
    with Client.embedded(config) as client:
        assert client.models[0].voices == ("ann", "bob", "cow")


@pytest.fixture
async def served(config: Config) -> AsyncIterator[Facing]:
    async with facing(config) as face:
        yield face


async def voices_of(served: Facing) -> list[str]:
    return list((await served.asks.get("/v1/audio/voices?legacy=true")).json()["voices"])


async def test_over_http(config: Config, served: Facing) -> None:
    asked = {"model": "tiny", "input": "hello there. and more.", "response_format": "pcm", "voice": "cat"} | SHORT
    missing = await served.post("/v1/audio/speech", asked)
    assert missing.status_code == 422
    assert "there is no such voice; there are: ann, bob" in missing.json()["error"]["message"]
    tokens = await asyncio.to_thread(add, config, "cat")
    spoken = await served.post("/v1/audio/speech", asked)
    assert spoken.status_code == 200
    del asked["voice"]
    sample = {"audio_prompt_tokens": tokens, "audio_prompt_transcription": "a cat sat"}
    assert (await served.post("/v1/audio/speech", asked | sample)).content == spoken.content
    assert (await served.post("/v1/audio/speech", asked)).content != spoken.content
    async with talking(served) as socket:
        config_ = {"type": "config", "model": "tiny", "response_format": "pcm", **SHORT}
        for said in (config_ | {"voice": "cat"}, config_ | sample):
            await say(socket, said, {"type": "text", "text": "hello there."}, {"type": "end"})
        assert (await utterance(socket))[1] == (await utterance(socket))[1] != b""
    async with asyncio.timeout(PATIENCE_S):  # the list follows with the worker's next sign of life
        while await voices_of(served) != ["ann", "bob", "cat"]:
            await asyncio.sleep(0.05)
        folder_of(config).remove("cat")
        while await voices_of(served) != ["ann", "bob"]:
            await asyncio.sleep(0.05)


def test_where_the_codec_hears_by_a_mel_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command that adds a voice to its sound, which is timed like any other."""
    config = with_folder(make_tiny_voice(tmp_path / "model", cloning=True, mel=True, timed=True), tmp_path / "voices")
    file, sample = tmp_path / "tiny.yaml", tmp_path / "sample.wav"
    file.write_bytes(msgspec.yaml.encode(config))
    sample.write_bytes(wav(speech(0.9)))
    assert main(["voices", "add", "cat", str(sample), "a cat sat", "--config", str(file)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'voices/cat.safetensors'}\n"
    voice = folder_of(config).find("cat")
    assert voice is not None
    assert len(set(voice.tokens.tolist())) > 7  # codes of a sound, not the same again and again
    with Client.embedded(config) as client:
        cat = list(client.speak("hello there.", voice="cat", sampling_params=SEEDED, word_timestamps=True))
        tokens = tuple(voice.tokens.tolist())
        given = client.speak(
            "hello there.", sampling_params=SEEDED, audio_prompt_tokens=tokens, audio_prompt_transcription="a cat sat"
        )
        np.testing.assert_array_equal(audio(cat), audio(list(given)))
        ann = audio(list(client.speak("hello there.", voice="ann", sampling_params=SEEDED)))
        assert audio(cat).shape != ann.shape or not np.allclose(audio(cat), ann)
    words = [word.word for output in cat for word in output.metadata.words]
    assert words[:1] == ["hello"]


class Watched:
    """A generator, and how much of each prompt it had."""

    def __init__(self, generator: TokenGenerator) -> None:
        self._generator = generator
        self.add, self.release = generator.add, generator.release
        self.cached: list[int] = []

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        deltas = self._generator.step(active)
        self.cached += [delta.prompt.cached_tokens for delta in deltas.values() if delta.prompt is not None]
        return deltas


def test_each_part_of_a_long_text_finds_the_sample_in_the_cache(config: Config) -> None:
    """The first computes it; those after it reuse all of its whole blocks, and say what they would say alone."""
    tokens = add(config, "cat")
    served = build(config)
    pipeline = served.pipeline
    assert isinstance(pipeline, SpeechPipeline)
    watched = Watched(pipeline._generator)
    private: Any = pipeline
    private._generator = watched
    sounds: list[NDArray[np.float32]] = []
    for text in ("hello there", "and more", "hello there"):
        asked = AudioGenerationRequest(RequestID(), "tiny", text, voice="cat", sampling_params=SEEDED)
        pipeline.admit(Attempt(asked, seed=3))
        outputs: list[AudioGenerationOutput] = []
        while not (outputs and outputs[-1].is_done):
            chunks = pipeline.execute([asked.request_id])
            outputs += [chunk.output for chunk in chunks if chunk.output is not None]
        pipeline.release(asked.request_id)
        sounds.append(audio(outputs))
    first, second, third = watched.cached
    turn = len("a cat sat") + len(tokens) + 4
    assert first == 0
    whole = turn // config.engine.block_size * config.engine.block_size
    assert min(second, third) >= whole > 200
    np.testing.assert_array_equal(sounds[0], sounds[2])
    served.close()
