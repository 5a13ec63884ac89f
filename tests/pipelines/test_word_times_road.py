"""Word timestamps over the whole road: a client's, and those of what joins the parts of a text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from max_interfaces import AudioGenerationOutput, ConfigError, RequestFailed, SamplingParams, WordTimestamp
from max_pipelines.client import AsyncClient
from max_pipelines.codecs import build_codec
from max_pipelines.config import Config
from tests.tiny_voice import make_tiny_voice

PARAMS = SamplingParams(seed=4)
TEXT = "One, two  three\nfour five, six seven eight nine, ten eleven, twelve 13. Well — so it is! And $5 million."


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Config:
    config = make_tiny_voice(tmp_path_factory.mktemp("timed"), timed=True)
    return msgspec.structs.replace(config, workers=msgspec.structs.replace(config.workers, transport="thread"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(voice: Config) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.embedded(voice) as client:
        yield client


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def heard(outputs: AsyncIterator[AudioGenerationOutput]) -> tuple[float, list[WordTimestamp]]:
    """How many seconds a sound has, and its words; none is told before the sound that it is in."""
    seconds, words = 0.0, list[WordTimestamp]()
    async for output in outputs:
        seconds += output.audio_data.size / (output.metadata.sample_rate or 1)
        words += output.metadata.words
        assert all(word.end <= seconds + 0.006 for word in output.metadata.words)  # what is kept for the fade
    return seconds, words


async def test_the_words_of_a_long_text_are_placed_in_the_whole(client: AsyncClient) -> None:
    seconds, words = await heard(client.speak(TEXT, sampling_params=PARAMS, word_timestamps=True))
    assert len(words) > 3
    for word in words:
        assert TEXT[word.text_start : word.text_end].split() == word.word.split()
        assert 0 <= word.start <= word.end <= seconds
    assert [word.text_start for word in words] == sorted({word.text_start for word in words})
    assert [word.start for word in words] == sorted(word.start for word in words)
    assert {"One,", "Well", "And"} <= {word.word for word in words}  # of each part the first word at least


async def test_each_parts_words_are_those_of_the_part_alone(client: AsyncClient) -> None:
    first, second = "Good morning to you.", "It is late."
    seconds, alone = await heard(client.speak(second, sampling_params=PARAMS, word_timestamps=True))
    _, begun = await heard(client.speak(first, sampling_params=PARAMS, word_timestamps=True))
    whole, words = await heard(client.speak(f"{first} {second}", sampling_params=PARAMS, word_timestamps=True))
    assert words[: len(begun)] == begun
    for word, same in zip(words[len(begun) :], alone, strict=True):
        assert word.word == same.word
        assert word.text_start == same.text_start + len(first) + 1
        assert whole - word.start == pytest.approx(seconds - same.start)  # at the end nothing is cut
        assert whole - word.end == pytest.approx(seconds - same.end)


async def test_a_text_that_is_being_written_has_the_same_words(client: AsyncClient) -> None:
    async def letters() -> AsyncIterator[str]:
        for letter in TEXT:
            yield letter

    _, words = await heard(client.stream_text(letters(), sampling_params=PARAMS, word_timestamps=True))
    assert all(TEXT[word.text_start : word.text_end].split() == word.word.split() for word in words)
    assert [word.text_start for word in words] == sorted({word.text_start for word in words})


async def test_who_does_not_ask_hears_the_same(client: AsyncClient) -> None:
    text = "Good morning to you."
    plain = [output async for output in client.speak(text, sampling_params=PARAMS)]
    timed = [output async for output in client.speak(text, sampling_params=PARAMS, word_timestamps=True)]
    one, other = (np.concatenate([output.audio_data for output in outputs]) for outputs in (plain, timed))
    np.testing.assert_array_equal(one, other)
    assert not any(output.metadata.words for output in plain)


async def test_a_voice_that_cannot_tell_refuses(tmp_path: Path) -> None:
    config = make_tiny_voice(tmp_path)
    config = msgspec.structs.replace(config, workers=msgspec.structs.replace(config.workers, transport="thread"))
    async with AsyncClient.embedded(config) as client:
        with pytest.raises(RequestFailed, match="word_timestamps: this voice cannot tell"):
            await heard(client.speak(TEXT, word_timestamps=True))


async def test_a_head_that_is_missing_or_does_not_fit_stops_the_start(tmp_path: Path) -> None:
    config = make_tiny_voice(tmp_path, timed=True)
    file = tmp_path / "codec" / "config.json"
    file.write_text(file.read_text().replace('"width": 8', '"width": 9'))
    with pytest.raises(ConfigError, match=r"aligner\.safetensors: does not fit config\.json: size mismatch"):
        build_codec(config)
    (tmp_path / "codec" / "aligner.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"aligner\.safetensors: cannot read"):
        build_codec(config)
