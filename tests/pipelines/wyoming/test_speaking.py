"""What Home Assistant says, and what it hears."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import numpy as np
import pytest
from wyoming.audio import AudioChunk, AudioStop
from wyoming.info import Describe, Info, SelectProgram
from wyoming.ping import Ping
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeVoice,
)

from max_codecs.pcm import to_s16
from max_interfaces.messages import ModelInfo
from max_pipelines.config import Config, Limits, WyomingConfig
from max_pipelines.http.problems import HttpProblem
from max_pipelines.wyoming.events import Voice
from max_pipelines.wyoming.info import describe, voice_of
from tests.pipelines.http.facing import trivial
from tests.pipelines.wyoming.talking import Served, Talking, serving, talking

ENDLESS = trivial(chunks=20_000, samples=2400)
CHUNK = 2 * 2400  # bytes of one of the pipeline's
WHOLE = to_s16(np.arange(2 * 2400, dtype=np.float32) / np.float32(2**20)).tobytes()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(trivial(chunks=2)) as server:
        yield server


@pytest.fixture
async def client(served: Served) -> AsyncIterator[Talking]:
    async with talking(served.uri) as client:
        yield client


async def test_what_there_is(client: Talking) -> None:
    await client.say(Describe())
    info = Info.from_event(await client.until("info"))
    (program,) = info.tts
    (voice,) = program.voices
    assert (program.name, program.installed, program.supports_synthesize_streaming) == ("voice", True, True)
    assert (voice.name, voice.installed, voice.languages, voice.speakers) == ("none", True, ["en"], None)
    assert program.version == voice.version
    assert program.attribution.name


async def test_a_text(client: Talking) -> None:
    for voice in (None, SynthesizeVoice(name="none"), SynthesizeVoice(language="en_GB")):
        await client.say(Synthesize("Hello.", voice=voice))
        heard = await client.listen()
        assert heard.kinds == ["audio-start", "audio-chunk", "audio-stop"]
        assert heard.rates == {(24_000, 2, 1)}
        assert heard.pcm == WHOLE


async def test_several_texts_at_once_are_spoken_in_turn(client: Talking) -> None:
    await client.say(*[Synthesize("Hello.")] * 3)
    for _ in range(3):
        assert (await client.listen()).pcm == WHOLE


async def test_a_text_that_is_being_written(client: Talking) -> None:
    await client.say(SynthesizeStart(), SynthesizeChunk("The first of some clauses, "))
    assert (await client.until("audio-start", "error")).data == {"rate": 24_000, "width": 2, "channels": 1}
    await client.until("audio-chunk")  # before the text has ended
    await client.say(SynthesizeChunk("is what it was."), SynthesizeStop())
    heard = await client.listen("synthesize-stopped")
    assert heard.kinds == ["audio-chunk", "audio-stop", "synthesize-stopped"]


async def test_the_whole_text_behind_its_pieces_is_not_spoken_twice(client: Talking) -> None:
    """Home Assistant sends it for servers that do not know of pieces."""
    await client.say(SynthesizeStart(), SynthesizeChunk("Hel"), SynthesizeChunk("lo."), Synthesize("Hello."))
    await client.say(SynthesizeStop(), Ping())
    heard = await client.listen("synthesize-stopped")
    assert heard.pcm == WHOLE
    assert heard.kinds[-2:] == ["audio-stop", "synthesize-stopped"]


async def test_a_text_without_a_word_is_an_empty_sound(client: Talking) -> None:
    await client.say(SynthesizeStart(), SynthesizeChunk(""), SynthesizeStop())
    assert (await client.listen("synthesize-stopped")).kinds == ["audio-start", "audio-stop", "synthesize-stopped"]


async def test_a_ping_and_what_is_not_for_a_voice(client: Talking) -> None:
    await client.say(AudioChunk(16_000, 2, 1, bytes(2000)), AudioStop(), Ping("there?"))
    assert (await client.until("pong")).data == {"text": "there?"}


async def test_a_program_may_be_selected(client: Talking) -> None:
    await client.say(SelectProgram("voice"), Synthesize("Hello."))
    assert (await client.listen()).pcm == WHOLE
    await client.say(SelectProgram("other"))
    assert (await client.until("error")).data["code"] == "unknown_model"


async def test_sound_and_pongs_come_while_it_is_made_and_who_leaves_cancels() -> None:
    async with serving(ENDLESS) as served:
        async with talking(served.uri) as client:
            await client.say(Synthesize("On and on."))
            await client.until("audio-chunk")
            assert (await served.gauges())["requests"] == 1
            await client.say(Ping())
            await client.until("pong")
        await served.rest()
        async with talking(served.uri) as client:
            await client.say(SynthesizeStart(), SynthesizeChunk("On and on. And "))
            await client.until("audio-chunk")
        await served.rest()


async def test_what_is_not_read_is_not_made() -> None:
    """Nor kept: the request rests until its reader has been away for too long, and the rest of it is never made."""
    impatient = msgspec.structs.replace(ENDLESS, limits=Limits(stall_s=0.2))
    async with serving(impatient) as served, talking(served.uri) as client:
        await client.say(Synthesize("On and on."))
        await client.until("audio-start")
        await served.rest()
        heard = await client.listen("error")
        assert heard.error is not None
        assert heard.error["code"] == "timeout"
        assert len(heard.pcm) < 20_000 * CHUNK / 2
        assert await client.hear() is None


async def test_what_is_being_spoken_may_end_when_the_server_does() -> None:
    async with serving(trivial(chunks=100)) as served, talking(served.uri) as client, talking(served.uri) as idle:
        await client.say(Synthesize("Hello."))
        await client.until("audio-start")
        served.ending.set()
        assert (await client.listen()).kinds[-1] == "audio-stop"
        assert await client.hear() is None
        assert await idle.hear() is None


async def test_who_comes_too_early_is_told() -> None:
    async with serving(trivial(), opened=False) as served, talking(served.uri) as client:
        await client.say(Describe())
        assert (await client.until("error")).data["code"] == "loading"
        assert await client.hear() is None


async def test_a_voice(tiny_voice: Config) -> None:
    async with (
        serving(tiny_voice, WyomingConfig(port=0, languages=("en", "de"))) as served,
        talking(served.uri) as client,
    ):
        await client.say(Describe())
        (program,) = Info.from_event(await client.until("info")).tts
        (info,) = served.face.client.models
        assert tuple(voice.name for voice in program.voices) == info.voices
        assert all(voice.languages == ["en", "de"] for voice in program.voices)
        await client.say(Synthesize("A cat.", voice=SynthesizeVoice(name=info.voices[-1])))
        heard = await client.listen()
        assert heard.rates == {(info.sample_rate, 2, 1)}


TWO = ModelInfo("m", "audio_generation", 24_000, ("ann", "bob"))


@pytest.mark.parametrize(
    ("voice", "means"),
    [
        (None, None),
        (Voice(), None),
        (Voice("bob"), "bob"),
        (Voice("bob", "fr"), "bob"),
        (Voice(language="EN"), None),
        (Voice(language="en-GB"), None),
    ],
)
def test_a_voice_that_is_asked_for(voice: Voice | None, means: str | None) -> None:
    assert voice_of(TWO, voice, ("en",)) == means


@pytest.mark.parametrize(
    "voice", [Voice("carl"), Voice("m"), Voice(""), Voice(language="fr"), Voice("bob", speaker="b")]
)
def test_a_voice_that_there_is_not(voice: Voice) -> None:
    with pytest.raises(HttpProblem):
        voice_of(TWO, voice, ("en",))


def test_only_what_speaks_is_described() -> None:
    assert describe([ModelInfo("t", "text_generation")], ("en",))["tts"] == []
