"""A second family of speech models on the whole road: CSM and Mimi, tiny random weights."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, CsmConfig

from max_codecs.layout import SpeechLayout
from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    ConfigError,
    GenerationStatus,
    RequestFailed,
    RequestID,
    SamplingParams,
)
from max_pipelines.client import AsyncClient, Client
from max_pipelines.config import Config, load_config
from max_pipelines.registry import build_pipeline, prove
from max_pipelines.speech.prompting import tuned
from tests.faults.listening import Audience, sends, standby_is_ready, strike
from tests.pipelines.http.facing import facing
from tests.pipelines.processes import servers
from tests.tiny_codecs import whole
from tests.tiny_csm import AUDIO, CODEBOOKS, CONFIGS, SIZE, TEXT, make_tiny_csm, tiny_csm

FRAMES = 15
SAMPLES = 48  # of a frame
GREEDY = SamplingParams(temperature=0, max_new_tokens=FRAMES * CODEBOOKS, seed=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Serves it, in a thread."""
    return make_tiny_csm(tmp_path_factory.mktemp("csm"))


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[Client]:
    """A client of it."""
    with Client.embedded(config) as client:
        yield client


@pytest.fixture(scope="module")
def plain() -> Any:
    """The model as transformers runs it."""
    return tiny_csm()


@pytest.fixture(scope="module")
def layout(config: Config) -> SpeechLayout:
    assert config.speech is not None
    return config.speech.spoken.layout


def request(text: str = "hello there", params: SamplingParams = GREEDY, **fields: Any) -> AudioGenerationRequest:
    return AudioGenerationRequest(RequestID(), "tiny", text, sampling_params=params, **fields)


def heard(outputs: list[AudioGenerationOutput]) -> NDArray[np.float32]:
    return np.concatenate([output.audio_data for output in outputs])


def said_by_transformers(plain: Any, config: Config, prompt: str, **sound: Any) -> NDArray[np.float32]:
    """The sound of a prompt in which special tokens are written out."""
    tokenizer: Any = AutoTokenizer.from_pretrained(config.model.path)
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
    options = {"max_new_tokens": FRAMES, "do_sample": False, "depth_decoder_do_sample": False}
    codes = plain.generate(input_ids=ids, **sound, **options)[0]
    return whole(plain.codec_model, codes.numpy())


@pytest.mark.parametrize("voice", [None, "3"])
def test_the_stream_is_the_sound_that_transformers_makes(
    client: Client, config: Config, plain: Any, voice: str | None
) -> None:
    expected = said_by_transformers(plain, config, f"<bos>[{voice or 0}]hello there<eos>")
    outputs = list(client.stream(request(voice=voice)))
    assert len(outputs) > 3
    assert outputs[0].audio_data.size == SAMPLES  # one frame: as early as can be
    np.testing.assert_allclose(heard(outputs), expected, atol=1e-5)
    (at_once,) = client.stream(request(voice=voice, streaming=False))
    np.testing.assert_allclose(at_once.audio_data, expected, atol=1e-5)


def test_a_reference_voice_is_a_turn_of_the_conversation(
    client: Client, config: Config, plain: Any, layout: SpeechLayout
) -> None:
    sound = torch.randn(1, 1, SAMPLES * 20, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        codes = plain.codec_model.encode(sound).audio_codes[0].T.numpy().astype(np.int64)
    turn = f"<bos>[2]what i said<eos>{'<|AUDIO|>' * len(codes)}<|audio_eos|>"
    cutoffs = torch.tensor([[sound.shape[-1]]])
    prompt = f"{turn}<bos>[2]hello there<eos>"
    expected = said_by_transformers(plain, config, prompt, input_values=sound, input_values_cutoffs=cutoffs)
    sample = {"audio_prompt_tokens": layout.ids(codes).tolist(), "audio_prompt_transcription": "what i said"}
    cloned = heard(list(client.stream(request(voice="2", **sample))))
    np.testing.assert_allclose(cloned, expected, atol=1e-5)
    assert not np.allclose(cloned, heard(list(client.stream(request(voice="2")))))
    tokenizer: Any = AutoTokenizer.from_pretrained(config.model.path)
    ids = tokenizer(prompt, add_special_tokens=False).input_ids  # a conversation of any length, as ids
    at = ids.index(AUDIO)
    written = (*ids[:at], *sample["audio_prompt_tokens"], *ids[at + len(codes) :])
    raw = AudioGenerationRequest(RequestID(), "tiny", prompt=written, sampling_params=GREEDY)
    np.testing.assert_array_equal(heard(list(client.stream(raw))), cloned)


def test_a_sound_that_goes_on_joins_without_a_seam(client: Client) -> None:
    first = list(client.stream(request(to_be_continued=True)))
    assert first[-1].buffer_speech_tokens is not None
    follow = request(
        "and on", buffer_speech_tokens=first[-1].buffer_speech_tokens, buffer_position=first[-1].buffer_position
    )
    assert heard(list(client.stream(follow))).size == FRAMES * SAMPLES


def test_a_runaway_ends_at_the_bound_of_the_file(client: Client) -> None:
    outputs = list(client.stream(request(params=SamplingParams(seed=4))))
    assert outputs[-1].final_status is GenerationStatus.END_OF_SEQUENCE
    assert heard(outputs).size == 50 * SAMPLES


async def test_many_at_once_are_each_as_if_alone(config: Config) -> None:
    async with AsyncClient.embedded(config) as client:

        async def spoken(seed: int) -> NDArray[np.float32]:
            asked = request(params=SamplingParams(seed=seed, max_new_tokens=30 * CODEBOOKS), voice=str(seed % 4))
            return heard([output async for output in client.stream(asked)])

        together = await asyncio.gather(*(spoken(seed) for seed in range(8)))
        for seed in (0, 3, 5):
            np.testing.assert_allclose(await spoken(seed), together[seed], atol=1e-5)


async def test_a_killed_worker_is_not_heard(config: Config) -> None:
    workers = msgspec.structs.replace(config.workers, transport="process", count=1, standby=1)
    config = msgspec.structs.replace(config, workers=workers)
    async with AsyncClient.embedded(config) as client:
        expected = await Audience(client, "tiny").all(3)
        (server,) = servers()
        await standby_is_ready(client)
        audience = Audience(client, "tiny")
        listening = asyncio.ensure_future(audience.all(3))
        await audience.until(7)
        await strike(client, sends(signal.SIGKILL, server))
        found = await listening
        gauges = (await client.report()).gauges
        assert gauges["lost_workers"] == 1
        assert gauges["resumed"] > 0
    assert all(one.equals(other) for one, other in zip(found, expected, strict=True))


async def test_it_is_served_over_http_like_any_other_voice(config: Config) -> None:
    async with facing(config) as face:
        body = {
            "model": "tiny",
            "input": "hello there",
            "voice": "1",
            "response_format": "pcm",
            "seed": 3,
            "sample_rate": 8000,
        }
        answer = await face.post("/v1/audio/speech", body)
        assert answer.status_code == 200
        assert len(answer.content) == 2 * 50 * SAMPLES
        assert (await face.post("/v1/audio/speech", body)).content == answer.content
        refused = await face.post("/v1/audio/speech", {**body, "voice": "ann"})
        assert "there are: 0, 1, 2, 3" in refused.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"audio_prompt_tokens": (TEXT,), "audio_prompt_transcription": "a"}, "whole frames of 4"),
        ({"audio_prompt_tokens": (TEXT,) * CODEBOOKS, "audio_prompt_transcription": "a"}, "no code of slot 1"),
        ({"audio_prompt_tokens": (TEXT,) * CODEBOOKS}, "audio_prompt_transcription"),
        ({"params": SamplingParams(logprobs=1)}, "logprobs"),
        ({"params": SamplingParams(max_new_tokens=3)}, "at least 4, a frame"),
        ({"adapter_id": "x"}, "no adapter 'x' is loaded"),
        ({"text": "a " * 21}, "21 words"),
    ],
)
def test_what_cannot_be_spoken_is_refused_with_the_reason(client: Client, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestFailed, match=says):
        client.generate(request(**fields))


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("audio_base", TEXT + 1),
        ("ids_per_slot", SIZE + 1),
        ("end_ids", (3,)),
        ("slots", tuple((codebook, 0) for codebook in (1, 0, 2, 3))),
    ],
)
def test_a_layout_that_is_not_the_models_is_refused_by_its_key(config: Config, key: str, wrong: Any) -> None:
    assert config.speech is not None
    form = config.speech.spoken
    layout = msgspec.structs.replace(form.layout, **{key: wrong})
    speech = msgspec.structs.replace(config.speech, format=msgspec.structs.replace(form, layout=layout))
    with pytest.raises(ConfigError, match=rf"speech\.format\.layout\.{key} is .*: this model's is "):
        build_pipeline(msgspec.structs.replace(config, speech=speech))


def test_it_proves_that_it_works(config: Config) -> None:
    served = build_pipeline(config)
    prove(served)
    assert served.voices == ("0", "1", "2", "3")
    assert served.gauges()["free_blocks"] == served.gauges()["blocks"] > 0


def test_the_shipped_file_says_what_transformers_knows() -> None:
    config = load_config(CONFIGS / "csm.yaml")
    assert config.speech is not None
    form, published = config.speech.spoken, CsmConfig()
    layout = form.layout
    assert (layout.audio_base, layout.band) == (published.text_vocab_size, published.vocab_size)
    assert layout.codebook_size == published.codec_config.codebook_size  # type: ignore[union-attr]
    assert layout.slots == tuple((codebook, 0) for codebook in range(published.num_codebooks or 0))
    assert layout.end_ids == (published.audio_eos_token_id,)
    assert layout.prompt.before_text == (published.bos_token_id,)
    assert layout.prompt.render("Hi {text}.", "1") == "[1]Hi {text}."
    assert layout.prompt.render_reference("Hi {text}.", "1") == "[1]Hi {text}."
    assert form.sampling.max_new_tokens == 32 * (form.frames.max_frames or 0)
    found = tuned(SamplingParams(), form.sampling)
    assert (found.temperature, found.top_k) == (0.9, 50)
