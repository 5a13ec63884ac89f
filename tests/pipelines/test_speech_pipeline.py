"""The speech document, field by field, at the pipeline's border; and the sound that comes out, sample by sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from max_codecs.format import SamplingDefaults, SpeechFormat
from max_codecs.layout import SpeechLayout
from max_codecs.orpheus import ORPHEUS
from max_codecs.snac.codec import SnacCodec
from max_interfaces import (
    Attempt,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    GenerationStatus,
    RequestID,
    SamplingParams,
    StreamStart,
)
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.speech.prompting import SpeechPrompter, tuned
from tests.fakes import END, SMALL_LAYOUT, CharTokenizer, Script, ScriptedGenerator, random_frames, small_codec

FRAMES = random_frames(13)
SPEECH = [*SMALL_LAYOUT.ids(FRAMES).tolist(), END]
WIDTH = 7


def request(**fields: object) -> AudioGenerationRequest:
    given: dict[str, object] = {"input": "hi", **fields}
    return AudioGenerationRequest(RequestID(), "m", **given)  # type: ignore[arg-type]


class Bench:
    """A pipeline over a scripted generator."""

    def __init__(
        self,
        codec: SnacCodec,
        script: Script = lambda start: SPEECH,
        chunk_frames: tuple[int, ...] = (1, 2, 4, 8),
        layout: SpeechLayout = SMALL_LAYOUT,
        max_words: int = 0,
        fade_in: int = 0,
    ) -> None:
        form = SpeechFormat(layout, max_words=max_words, sampling=SamplingDefaults(0.4, 0.9), fade_in=fade_in)
        self.generator = ScriptedGenerator(script)
        prompter = SpeechPrompter(form, CharTokenizer(), str.lower)
        self.pipeline = SpeechPipeline(form, chunk_frames, prompter, self.generator, codec, 200_000)

    def run(
        self, asked: AudioGenerationRequest, attempt: Attempt[AudioGenerationRequest] | None = None
    ) -> list[Chunk[AudioGenerationOutput]]:
        chunks: list[Chunk[AudioGenerationOutput]] = []
        self.pipeline.admit(attempt or Attempt(asked, seed=7))
        while not chunks or not chunks[-1].output.is_done:
            chunks += self.pipeline.execute([asked.request_id])
        self.pipeline.release(asked.request_id)
        return chunks

    def prompt_of(self, asked: AudioGenerationRequest) -> tuple[int, ...]:
        self.pipeline.admit(Attempt(asked))
        self.pipeline.release(asked.request_id)
        return self.generator.seen[-1].prompt


def joined(chunks: list[Chunk[AudioGenerationOutput]]) -> NDArray[np.float32]:
    return np.concatenate([chunk.output.audio_data for chunk in chunks])


def one_shot(codec: SnacCodec, frames: NDArray[np.int64], seed: int = 7) -> NDArray[np.float32]:
    stream = codec.open(StreamStart(seed=seed))
    return np.concatenate([stream.push(frames), stream.flush()])


@pytest.fixture(scope="module", params=["causal", "symmetric"])
def codec(request: pytest.FixtureRequest) -> SnacCodec:
    return small_codec(causal=request.param == "causal")


# -- the prompt ------------------------------------------------------------------------------------------------------


def ids(text: str) -> tuple[int, ...]:
    return tuple(CharTokenizer().encode(text))


def test_input_becomes_the_layouts_prompt(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input="Hi")) == (1, 6, *ids("hi"), 2, 3)
    assert Bench(codec).prompt_of(request(input="Hi", voice="bob")) == (1, 7, *ids("hi"), 2, 3)


def test_normalize_false_leaves_the_text_alone(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input="Hi", normalize=False)) == (1, 6, *ids("Hi"), 2, 3)


def test_prompt_as_ids_goes_to_the_model_as_it_is(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input=None, prompt=[9, 8, 7])) == (9, 8, 7)


def test_prompt_as_a_string_is_tokenised_with_its_special_tokens(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input=None, prompt="<7>")) == (7,)
    assert Bench(codec).prompt_of(request(input=None, prompt="ab")) == ids("ab")


def test_prompt_wins_over_input(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input="hi", prompt=[9])) == (9,)


def test_special_tokens_in_input_are_plain_characters(codec: SnacCodec) -> None:
    assert Bench(codec).prompt_of(request(input="<7>")) == (1, 6, *ids("<7>"), 2, 3)


def test_assistant_message_override_changes_just_its_part(codec: SnacCodec) -> None:
    plain = Bench(codec).prompt_of(request())
    overridden = Bench(codec).prompt_of(request(_assistant_message_override="<7>"))
    assert plain[-1:] == (3,)
    assert overridden == (*plain[:-1], 7)


def test_a_reference_voice_enters_the_orpheus_prompt(codec: SnacCodec) -> None:
    sound = ORPHEUS.ids(np.zeros((2, 7), np.int64)).tolist()
    bench = Bench(codec, layout=ORPHEUS)
    prompt = bench.prompt_of(request(audio_prompt_tokens=sound, audio_prompt_transcription="abc"))
    turn = (128259, 128000, *ids("abc"), 128009, 128260, 128261, 128257, *sound, 128258, 128262)
    assert prompt == (*turn, 128259, 128000, *ids("tara: hi"), 128009, 128260, 128261, 128257)


def test_a_reference_voice_is_refused_where_it_cannot_be_used(codec: SnacCodec) -> None:
    with pytest.raises(ValueError, match="no reference voice"):
        Bench(codec).prompt_of(request(audio_prompt_tokens=[1], audio_prompt_transcription="abc"))
    with pytest.raises(ValueError, match="no reference voice"):
        Bench(codec).prompt_of(request(audio_prompt_transcription="abc"))


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"audio_prompt_tokens": [128266]}, "audio_prompt_transcription"),
        ({"audio_prompt_transcription": "abc"}, "audio_prompt_tokens"),
    ],
)
def test_half_a_reference_is_refused(codec: SnacCodec, fields: dict[str, object], missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        Bench(codec, layout=ORPHEUS).prompt_of(request(**fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"voice": "eve"}, "ann, bob"),
        ({"voice": "eve", "input": None, "prompt": [9]}, "ann, bob"),
        ({"speed": 2.0}, "speed"),
        ({"adapter_id": "x"}, "adapter_id"),
        ({"input": "one two three four"}, "4 words.*3 at most"),
        ({"buffer_speech_tokens": np.array([100])}, "whole frames"),
        ({"buffer_speech_tokens": np.array([5] * 7)}, "speech token 0"),
    ],
)
def test_what_this_model_cannot_do_is_refused(codec: SnacCodec, fields: dict[str, object], says: str) -> None:
    bench = Bench(codec, max_words=3)
    with pytest.raises(ValueError, match=says):
        bench.prompt_of(request(**fields))
    assert not bench.generator.starts


def test_sampling_defaults_are_the_voices_until_the_request_says_otherwise() -> None:
    defaults = SamplingDefaults(0.4, 0.9, 1.1, 900)
    untouched = tuned(SamplingParams(seed=3), defaults)
    assert (untouched.temperature, untouched.top_p, untouched.repetition_penalty) == (0.4, 0.9, 1.1)
    assert (untouched.seed, untouched.max_new_tokens) == (3, 900)
    chosen = tuned(SamplingParams(temperature=0, max_new_tokens=5), defaults)
    assert (chosen.temperature, chosen.top_p, chosen.max_new_tokens) == (0, 1.0, 5)


# -- the sound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_frames", [(1,), (1, 2, 4, 8), (3,), (50,)])
def test_the_joined_stream_is_the_one_shot_decode(codec: SnacCodec, chunk_frames: tuple[int, ...]) -> None:
    chunks = Bench(codec, chunk_frames=chunk_frames).run(request())
    np.testing.assert_allclose(joined(chunks), one_shot(codec, FRAMES), atol=1e-5)


@pytest.mark.parametrize("chunk_frames", [(1,), (3,), (50,)])
def test_the_first_samples_are_faded_in_whatever_the_chunks(codec: SnacCodec, chunk_frames: tuple[int, ...]) -> None:
    chunks = Bench(codec, chunk_frames=chunk_frames, fade_in=150).run(request())
    expected = one_shot(codec, FRAMES)
    expected[:150] *= np.arange(150, dtype=np.float32) / 150
    np.testing.assert_allclose(joined(chunks), expected, atol=1e-5)


def test_streaming_false_gives_one_output_equal_to_the_joined_stream(codec: SnacCodec) -> None:
    streamed = joined(Bench(codec).run(request()))
    (whole,) = Bench(codec).run(request(streaming=False))
    np.testing.assert_allclose(whole.output.audio_data, streamed, atol=1e-5)
    assert whole.output.metadata.final_chunk
    assert whole.tokens == tuple(SPEECH)


def test_chunks_are_numbered_timed_and_carry_what_a_resume_needs(codec: SnacCodec) -> None:
    chunks = Bench(codec).run(request())
    assert [chunk.output.metadata.chunk_id for chunk in chunks] == list(range(len(chunks)))
    assert [token for chunk in chunks for token in chunk.tokens] == SPEECH
    position = 0
    for chunk in chunks:
        assert (chunk.first_sample, chunk.samples) == (position, chunk.output.audio_data.size)
        assert chunk.output.metadata.duration == chunk.samples / codec.sample_rate
        assert chunk.output.steps_executed == len(chunk.tokens)
        position += chunk.samples
    assert position == len(FRAMES) * codec.frame_samples
    assert [chunk.output.is_done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


@pytest.mark.parametrize("done", [1, 9, 30, 58, 90])
def test_another_attempt_goes_on_where_the_first_one_stopped(codec: SnacCodec, done: int) -> None:
    asked = request()
    whole = joined(Bench(codec).run(asked))
    first = Bench(codec)
    first.pipeline.admit(Attempt(asked, seed=7))
    heard = [chunk for _ in range(done) for chunk in first.pipeline.execute([asked.request_id])]
    tokens = tuple(token for chunk in heard for token in chunk.tokens)
    position = sum(chunk.samples for chunk in heard)
    rest = Bench(codec).run(asked, Attempt(asked, 7, 2, tokens, position))
    assert rest[0].first_sample == position
    np.testing.assert_allclose(joined(heard + rest), whole, atol=1e-5)


@pytest.mark.parametrize("cut", [1, 4, 12])
def test_two_requests_join_without_a_seam(codec: SnacCodec, cut: int) -> None:
    """One text as one request, and the same tokens as two, the first of them to be continued."""
    whole = joined(Bench(codec).run(request()))
    begun = Bench(codec, script=lambda start: [*SPEECH[: WIDTH * cut], END]).run(request(to_be_continued=True))
    last = begun[-1].output
    follow_up = request(buffer_speech_tokens=last.buffer_speech_tokens, buffer_position=last.buffer_position)
    ended = Bench(codec, script=lambda start: SPEECH[WIDTH * cut :]).run(follow_up, Attempt(follow_up, seed=99))
    np.testing.assert_allclose(joined(begun + ended), whole, atol=1e-5)


def test_a_buffer_alone_primes_the_decoder_and_is_not_heard_again(codec: SnacCodec) -> None:
    buffer = SMALL_LAYOUT.ids(FRAMES[:5]).astype(np.int32)
    asked = request(buffer_speech_tokens=buffer)
    chunks = Bench(codec, script=lambda start: SPEECH[5 * WIDTH :]).run(asked)
    np.testing.assert_allclose(joined(chunks), one_shot(codec, FRAMES)[5 * codec.frame_samples :], atol=1e-5)


def test_a_stray_token_costs_one_frame_and_no_more(codec: SnacCodec) -> None:
    broken = [*SPEECH[:10], *SPEECH[11:]]
    chunks = Bench(codec, script=lambda start: broken).run(request())
    kept = np.concatenate([FRAMES[:1], FRAMES[2:]])
    np.testing.assert_allclose(joined(chunks), one_shot(codec, kept), atol=1e-5)


def test_an_utterance_without_sound_still_ends(codec: SnacCodec) -> None:
    (only,) = Bench(codec, script=lambda start: [END]).run(request())
    assert only.output.is_done
    assert only.output.audio_data.size == 0
    assert only.output.final_status is GenerationStatus.END_OF_SEQUENCE


def test_requests_side_by_side_do_not_touch_each_other(codec: SnacCodec) -> None:
    scripts = {seed: [*SMALL_LAYOUT.ids(random_frames(seed + 2, seed)).tolist(), END] for seed in range(4)}
    asked = [replace(request(), sampling_params=SamplingParams(seed=seed)) for seed in range(4)]
    bench = Bench(codec, script=lambda start: scripts[start.seed])
    for number, one in enumerate(asked):
        bench.pipeline.admit(Attempt(one, seed=number))
    running, sounds = {one.request_id for one in asked}, {one.request_id: [] for one in asked}  # type: ignore[var-annotated]
    while running:
        for chunk in bench.pipeline.execute(sorted(running)):
            sounds[chunk.request_id].append(chunk)
            if chunk.output.is_done:
                running.discard(chunk.request_id)
                bench.pipeline.release(chunk.request_id)
    for number, one in enumerate(asked):
        expected = one_shot(codec, random_frames(number + 2, number), seed=number)
        np.testing.assert_allclose(joined(sounds[one.request_id]), expected, atol=1e-5)
