"""The speech document, field by field, at the pipeline's border; and the sound that comes out, sample by sample."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.constraint import PhaseBounds
from max_codecs.format import SamplingDefaults, SpeechFormat
from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.orpheus import ORPHEUS
from max_codecs.prompt import ReferenceFormat
from max_codecs.snac.codec import SnacCodec
from max_interfaces import (
    Attempt,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    CodecStream,
    DeviceLost,
    FailureKind,
    GenerationStatus,
    RequestID,
    SamplingParams,
    StreamPosition,
    StreamStart,
    TokenDelta,
)
from max_pipelines.config import SpeechConfig
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.speech.prompting import SpeechPrompter, tuned
from max_pipelines.voices.file import About, StoredVoice
from max_pipelines.voices.folder import VoiceFolder
from tests.fakes import END, SMALL_LAYOUT, CharTokenizer, Script, ScriptedGenerator, random_frames, small_codec

FRAMES = random_frames(13)
SPEECH = [*SMALL_LAYOUT.ids(FRAMES).tolist(), END]
WIDTH = 7
CLONING = msgspec.structs.replace(
    SMALL_LAYOUT,
    prompt=msgspec.structs.replace(
        SMALL_LAYOUT.prompt,
        reference=ReferenceFormat(
            before_text=(11,), after_text=(12,), before_audio=(13,), after_audio=(14,), voice=(9,)
        ),
    ),
)
Chunks = list[Chunk[AudioGenerationOutput]]


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
        stride: int = 1,
        trim_silence_s: float = 0.0,
        added: VoiceFolder | None = None,
        **form: object,
    ) -> None:
        defaults = {"sampling": SamplingDefaults(0.4, 0.9)}
        self.form = SpeechFormat(layout, **(defaults | form))  # type: ignore[arg-type]
        self.generator = ScriptedGenerator(script, stride)
        prompter = SpeechPrompter(self.form, CharTokenizer(), added=added)
        config = SpeechConfig(chunk_frames=chunk_frames, trim_silence_s=trim_silence_s)
        self.pipeline = SpeechPipeline(self.form, config, prompter, self.generator, codec, 200_000)

    def run(self, asked: AudioGenerationRequest, attempt: Attempt[AudioGenerationRequest] | None = None) -> Chunks:
        chunks: Chunks = []
        self.pipeline.admit(attempt or Attempt(asked, seed=7))
        while not any(output.is_done for output in outputs(chunks[-1:])):
            chunks += self.pipeline.execute([asked.request_id])
        self.pipeline.release(asked.request_id)
        return chunks

    def prompt_of(self, asked: AudioGenerationRequest) -> tuple[int, ...]:
        self.pipeline.admit(Attempt(asked))
        self.pipeline.release(asked.request_id)
        return self.generator.seen[-1].prompt


def outputs(chunks: Chunks) -> list[AudioGenerationOutput]:
    """What the caller gets: all chunks but the notes."""
    return [chunk.output for chunk in chunks if chunk.output is not None]


def tokens_of(chunks: Chunks) -> tuple[int, ...]:
    return tuple(token for chunk in chunks for token in chunk.tokens)


def joined(chunks: Chunks) -> NDArray[np.float32]:
    silence: NDArray[np.float32] = np.zeros(0, np.float32)
    return np.concatenate([silence, *[output.audio_data for output in outputs(chunks)]])


def together(bench: Bench, asked: Mapping[AudioGenerationRequest, int]) -> dict[RequestID, Chunks]:
    """All chunks of requests that run side by side, each with the seed that stands beside it."""
    sounds: dict[RequestID, Chunks] = {one.request_id: [] for one in asked}
    for one, seed in asked.items():
        bench.pipeline.admit(Attempt(one, seed=seed))
    running = set(sounds)
    while running:
        for chunk in bench.pipeline.execute(sorted(running)):
            sounds[chunk.request_id].append(chunk)
            if chunk.output is not None and chunk.output.is_done:
                running.discard(chunk.request_id)
                bench.pipeline.release(chunk.request_id)
    return sounds


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
    assert Bench(codec).prompt_of(request(input="Hi")) == (1, 6, *ids("Hi"), 2, 3)
    assert Bench(codec).prompt_of(request(input="Hi", voice="bob")) == (1, 7, *ids("Hi"), 2, 3)


def test_normalize_false_leaves_the_text_alone(codec: SnacCodec) -> None:
    bench = Bench(codec, normalize=True)
    assert bench.prompt_of(request(input="Hi 2")) == (1, 6, *ids("Hi two"), 2, 3)
    assert bench.prompt_of(request(input="Hi 2", normalize=False)) == (1, 6, *ids("Hi 2"), 2, 3)


def test_a_model_with_an_alphabet_gets_no_other_letters(codec: SnacCodec) -> None:
    bench = Bench(codec, spell=True)
    assert bench.prompt_of(request(input="Hi, 2 Äpfel")) == (1, 6, *ids("hi, two apfel"), 2, 3)
    assert bench.prompt_of(request(input="Hi, 2 Äpfel", normalize=False)) == (1, 6, *ids("hi, apfel"), 2, 3)


def test_tags_of_the_format_stay_as_they_are(codec: SnacCodec) -> None:
    bench = Bench(codec, normalize=True, tags=("<laugh>",))
    assert bench.prompt_of(request(input="<laugh> 3 & <7>")) == (1, 6, *ids("<laugh> three and <seven>"), 2, 3)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"input": "hi"}, "hi."),
        ({"input": "hi?"}, "hi?"),
        ({"input": "he said 'hi'"}, "he said 'hi'"),
        ({"input": "hi <laugh>"}, "hi <laugh>"),
        ({"input": "hi", "to_be_continued": True}, "hi"),
    ],
)
def test_a_text_without_an_end_is_ended_by_a_full_stop(codec: SnacCodec, fields: dict[str, object], said: str) -> None:
    assert Bench(codec, full_stop=True).prompt_of(request(**fields)) == (1, 6, *ids(said), 2, 3)


@pytest.mark.parametrize("text", ["!?...", "😀", "\x00\u200b", "\u202e.", "—"])
def test_a_text_without_a_word_is_refused(codec: SnacCodec, text: str) -> None:
    with pytest.raises(ValueError, match="has nothing that can be spoken"):
        Bench(codec, normalize=True).prompt_of(request(input=text))


def test_how_many_tokens_there_may_be_depends_on_the_text(codec: SnacCodec) -> None:
    sampling = SamplingDefaults(max_new_tokens=200, tokens_per_character=2.5, spare_tokens=20)
    bench = Bench(codec, sampling=sampling)

    def limit(**fields: object) -> int | None:
        bench.prompt_of(request(**fields))
        return bench.generator.seen[-1].sampling_params.max_new_tokens

    assert limit(input="abc") == 27
    assert limit(input="a" * 100) == 200
    assert limit(input="abc", sampling_params=SamplingParams(max_new_tokens=150)) == 150
    assert limit(input=None, prompt=[9]) == limit(_assistant_message_override="<7>") == 200


def test_the_words_of_the_text_are_what_a_model_of_phones_is_held_to(codec: SnacCodec) -> None:
    layout = msgspec.structs.replace(SMALL_LAYOUT, phones=PhoneFormat(((10, 20),), 8, next_clause=9, word_border=21))
    bench = Bench(codec, layout=layout, phases=PhaseBounds(hold_words=True))

    def may_go_on(**fields: object) -> bool:
        bench.prompt_of(request(**fields))
        constraint = bench.generator.seen[-1].constraint
        assert constraint is not None
        mask = constraint.allowed([10, 21, 11])
        assert mask is not None
        return bool(mask[21])

    assert may_go_on(input="one two three")
    assert not may_go_on(input="one two")
    assert may_go_on(input=None, prompt=[9])  # whose words are not known


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
    assert prompt == (*turn, 128259, 128000, *ids("hi"), 128009, 128260, 128261, 128257)
    named = bench.prompt_of(request(audio_prompt_tokens=sound, audio_prompt_transcription="abc", voice="leo"))
    assert named == (*turn, 128259, 128000, *ids("leo: hi"), 128009, 128260, 128261, 128257)


def test_an_added_voice_is_its_sample(codec: SnacCodec, tmp_path: Path) -> None:
    """The same ids as those of a request that brings the sample along, words written out alike."""
    sound = SMALL_LAYOUT.ids(random_frames(3))
    folder = VoiceFolder(tmp_path, "0" * 32)
    folder.add("cat", StoredVoice(sound, About("A Cat", "0" * 32, "2026-01-01", 1.0)))
    bench = Bench(codec, layout=CLONING, added=folder, spell=True)
    turn = (11, *ids("a cat"), 12, 13, *sound.tolist(), 14)
    assert bench.prompt_of(request(voice="cat")) == (*turn, 1, 9, *ids("hi"), 2, 3)
    brought = {"audio_prompt_tokens": sound.tolist(), "audio_prompt_transcription": "A Cat"}
    assert bench.prompt_of(request(**brought)) == bench.prompt_of(request(voice="cat"))
    with pytest.raises(ValueError, match="voice = 'bob' is another; leave one of them out"):
        bench.prompt_of(request(**brought, voice="bob"))
    assert bench.prompt_of(request(voice="cat", input=None, prompt=[9])) == (9,)
    with pytest.raises(ValueError, match="voice = 'cat' has a sample of its own; leave one of them out"):
        bench.prompt_of(request(**brought, voice="cat"))
    with pytest.raises(ValueError, match="voice='dog': there is no such voice; there are: ann, bob, cat"):
        bench.prompt_of(request(voice="dog"))
    folder.remove("cat")
    with pytest.raises(ValueError, match=r"there are: ann, bob$"):
        bench.prompt_of(request(voice="cat"))


def test_a_resume_has_the_sample_too(codec: SnacCodec) -> None:
    """Whatever was generated before a worker was lost, the next one reads the same prompt."""
    sound = SMALL_LAYOUT.ids(random_frames(3)).tolist()
    bench = Bench(codec, layout=CLONING)
    asked = request(audio_prompt_tokens=sound, audio_prompt_transcription="abc")
    whole = joined(bench.run(asked))
    heard = 5 * codec.frame_samples
    rest = bench.run(asked, Attempt(asked, 7, 2, tuple(SPEECH[:50]), heard, 3))
    assert bench.generator.seen[-1].prompt == bench.generator.seen[-2].prompt
    assert bench.generator.seen[-1].accepted == tuple(SPEECH[:50])
    np.testing.assert_allclose(joined(rest), whole[heard:], atol=1e-5)


def test_of_a_prompt_the_sample_alone_is_for_others(codec: SnacCodec) -> None:
    bench = Bench(codec, layout=CLONING)
    sound = CLONING.ids(FRAMES[:3]).tolist()
    sample = {"audio_prompt_tokens": sound, "audio_prompt_transcription": "abc"}
    prompts = [bench.prompt_of(request(input=text, **sample)) for text in ("hi", "you")]
    shared = {start.shared_prefix for start in bench.generator.seen}
    assert shared == {4 + len("abc") + len(sound)}  # with the four ids around its words and its sound
    (length,) = shared
    assert length is not None
    assert prompts[0][:length] == prompts[1][:length]
    bench.prompt_of(request())
    assert bench.generator.seen[-1].shared_prefix == 0
    bench.prompt_of(request(input=None, prompt=(5, 6, 7)))
    assert bench.generator.seen[-1].shared_prefix is None  # nobody knows what it is


def test_a_transcript_without_words_is_refused(codec: SnacCodec) -> None:
    sound = SMALL_LAYOUT.ids(random_frames(1)).tolist()
    with pytest.raises(ValueError, match="audio_prompt_transcription = ' ': has nothing that can be spoken"):
        Bench(codec, layout=CLONING).prompt_of(request(audio_prompt_tokens=sound, audio_prompt_transcription=" "))


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
        ({"sampling_params": SamplingParams(beam_width=4)}, "beam_width = 4: speech is not searched for"),
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
    chunks = Bench(codec).run(request(streaming=False))
    (whole,) = outputs(chunks)
    np.testing.assert_allclose(whole.audio_data, streamed, atol=1e-5)
    assert whole.metadata.final_chunk
    assert whole.steps_executed == len(SPEECH)
    assert [chunk.tokens for chunk in chunks] == [(token,) for token in SPEECH]


def test_chunks_are_numbered_timed_and_carry_what_a_resume_needs(codec: SnacCodec) -> None:
    chunks = Bench(codec).run(request())
    assert [output.metadata.chunk_id for output in outputs(chunks)] == list(range(len(outputs(chunks))))
    position, tokens, steps = 0, 0, 0
    for chunk in chunks:
        tokens, steps = tokens + len(chunk.tokens), steps + len(chunk.tokens)
        if chunk.output is None:
            continue
        assert (chunk.first_sample, chunk.samples) == (position, chunk.output.audio_data.size)
        assert chunk.output.metadata.duration == chunk.samples / codec.sample_rate
        assert (chunk.output.steps_executed, chunk.output.metadata.tokens_generated) == (steps, tokens)
        position, steps = position + chunk.samples, 0
    assert position == len(FRAMES) * codec.frame_samples
    done = [output.is_done for output in outputs(chunks)]
    assert done == [False] * (len(done) - 1) + [True]


@pytest.mark.parametrize("stride", [1, 3])
def test_every_token_is_told_at_once_with_its_sound_or_as_a_note(codec: SnacCodec, stride: int) -> None:
    bench, asked = Bench(codec, stride=stride), request()
    bench.pipeline.admit(Attempt(asked, seed=7))
    for first in range(0, len(SPEECH), stride):
        (chunk,) = bench.pipeline.execute([asked.request_id])
        assert chunk.tokens == tuple(SPEECH[first : first + stride])
        assert chunk.output is not None or (chunk.first_sample, chunk.samples) == (0, 0)


@pytest.mark.parametrize("cut", [1, 4, 12])
def test_two_requests_join_without_a_seam(codec: SnacCodec, cut: int) -> None:
    """One text as one request, and the same tokens as two, the first of them to be continued."""
    whole = joined(Bench(codec).run(request()))
    begun = Bench(codec, script=lambda start: [*SPEECH[: WIDTH * cut], END]).run(request(to_be_continued=True))
    last = outputs(begun)[-1]
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
    (only,) = outputs(Bench(codec, script=lambda start: [END]).run(request()))
    assert only.is_done
    assert only.audio_data.size == 0
    assert only.final_status is GenerationStatus.END_OF_SEQUENCE


def test_requests_side_by_side_do_not_touch_each_other(codec: SnacCodec) -> None:
    scripts = {seed: [*SMALL_LAYOUT.ids(random_frames(seed + 2, seed)).tolist(), END] for seed in range(4)}
    asked = [replace(request(), sampling_params=SamplingParams(seed=seed)) for seed in range(4)]
    bench = Bench(codec, script=lambda start: scripts[start.seed])
    sounds = together(bench, {one: number for number, one in enumerate(asked)})
    for number, one in enumerate(asked):
        expected = one_shot(codec, random_frames(number + 2, number), seed=number)
        np.testing.assert_allclose(joined(sounds[one.request_id]), expected, atol=1e-5)


# -- other attempts --------------------------------------------------------------------------------------------------

LONG = random_frames(40, seed=5)
CODECS = {kind: small_codec(causal=kind == "causal") for kind in ("causal", "symmetric")}


@dataclass
class Caller:
    """What has come of a request, and so where another attempt goes on."""

    asked: AudioGenerationRequest
    chunks: Chunks = field(default_factory=list)
    attempts: int = 0

    def attempt(self) -> Attempt[AudioGenerationRequest]:
        self.attempts += 1
        heard = [chunk for chunk in self.chunks if chunk.output is not None]
        sample = heard[-1].first_sample + heard[-1].samples if heard else 0
        first = heard[0].first_sample if heard else 0
        return Attempt(self.asked, 7, self.attempts, tokens_of(self.chunks), sample, len(heard), first_sample=first)

    def hear(self, bench: Bench, steps: int, lost: int = 0) -> None:
        """Take what so many steps of a worker give, but for its last notes, of which some are lost with the worker."""
        bench.pipeline.admit(self.attempt())
        chunks = [chunk for _ in range(steps) for chunk in bench.pipeline.execute([self.asked.request_id])]
        while lost and chunks and chunks[-1].output is None:
            chunks.pop()
            lost -= 1
        self.chunks += chunks

    def hear_out(self, bench: Bench) -> AudioGenerationOutput:
        """Take the rest. The last output."""
        self.chunks += bench.run(self.asked, self.attempt())
        return outputs(self.chunks)[-1]


def same_end(one: AudioGenerationOutput, other: AudioGenerationOutput) -> None:
    assert one.final_status is other.final_status
    assert one.metadata.tokens_generated == other.metadata.tokens_generated
    assert one.buffer_position == other.buffer_position
    assert one.buffer_speech_tokens is not None
    assert other.buffer_speech_tokens is not None
    assert one.buffer_speech_tokens.tolist() == other.buffer_speech_tokens.tolist()


def buffers(codec: SnacCodec) -> list[dict[str, object]]:
    """What stands before a sound: nothing, a buffer that was heard, and one that goes on without a seam."""
    buffer = SMALL_LAYOUT.ids(random_frames(12, seed=3))
    heard = (20 + 12 - codec.lookahead_frames) * codec.frame_samples - (5 if codec.lookahead_frames else 0)
    follow_up = {"buffer_speech_tokens": buffer, "buffer_position": StreamPosition(3, 20, heard)}
    return [{}, {"buffer_speech_tokens": buffer}, follow_up]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cut_anywhere_a_sound_is_the_same(data: st.DataObject) -> None:
    codec = CODECS[data.draw(st.sampled_from(sorted(CODECS)), "codec")]
    stray = data.draw(st.lists(st.integers(0, len(LONG) * WIDTH), max_size=3), "broken")
    speech = [token for at, token in enumerate(SMALL_LAYOUT.ids(LONG).tolist()) if at not in stray]
    speech = [*speech[: data.draw(st.integers(0, len(speech)), "length")], END]
    fields = data.draw(st.sampled_from(buffers(codec)), "buffer") | {
        "streaming": data.draw(st.booleans(), "streaming"),
        "to_be_continued": data.draw(st.booleans(), "to be continued"),
    }
    cuts = data.draw(st.lists(st.integers(0, len(speech) - 1), max_size=3), "steps of each worker")
    sizes = data.draw(st.sampled_from([(1,), (1, 2, 4, 8), (3,), (50,)]), "chunks")
    stride = data.draw(st.sampled_from([1, 1, 3]), "stride")

    def bench() -> Bench:
        return Bench(codec, lambda start: speech, sizes, fade_in=150, stride=stride)

    whole, cut = Caller(request(**fields)), Caller(request(**fields))
    expected = whole.hear_out(bench())
    for steps in cuts:
        left = (len(speech) - len(tokens_of(cut.chunks)) - 1) // stride
        cut.hear(bench(), min(steps, left), data.draw(st.integers(0, 2), "lost notes"))
    last = cut.hear_out(bench())

    np.testing.assert_allclose(joined(cut.chunks), joined(whole.chunks), rtol=0, atol=1e-5)
    assert tokens_of(cut.chunks) == tuple(speech)
    given_out = outputs(cut.chunks)
    assert [output.metadata.chunk_id for output in given_out] == list(range(len(given_out)))
    assert stride > 1 or sum(output.steps_executed for output in given_out) == len(speech)
    same_end(last, expected)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("end", [[END], []])
def test_an_attempt_whose_tokens_are_complete_ends_at_once(codec: SnacCodec, streaming: bool, end: list[int]) -> None:
    """Its last token was noted, and its worker was lost before it said so."""
    speech = SPEECH[:-1] + end
    asked = request(streaming=streaming)
    whole, cut = Caller(asked), Caller(asked)
    expected = whole.hear_out(Bench(codec, lambda start: speech))
    cut.hear(Bench(codec, lambda start: speech), len(speech) - 1)
    cut.chunks.append(Chunk(asked.request_id, None, tuple(speech[-1:])))
    known = len(cut.chunks)
    last = cut.hear_out(Bench(codec, lambda start: speech))
    assert [(chunk.tokens, chunk.output) for chunk in cut.chunks[known:]] == [((), last)]
    np.testing.assert_allclose(joined(cut.chunks), joined(whole.chunks), rtol=0, atol=1e-5)
    same_end(last, expected)


class Spy(SnacCodec):
    """The same codec, which notes how its streams begin and what they are fed, and fails for the frame `poison`."""

    def __init__(
        self, codec: SnacCodec, poison: NDArray[np.int64] | None = None, problem: Exception | None = None
    ) -> None:
        vars(self).update(vars(codec))
        self._poison = poison
        self._problem = problem or RuntimeError("no such sound")
        self.opened: list[StreamStart] = []
        self.pushed: list[int] = []

    def open(self, start: StreamStart) -> CodecStream:  # type: ignore[override]
        self.opened.append(start)
        return SpyStream(self, super().open(start))

    def see(self, frames: NDArray[np.int64]) -> None:
        self.pushed.append(len(frames))
        if self._poison is not None and (frames == self._poison).all(1).any():
            raise self._problem


@dataclass
class SpyStream:
    spy: Spy
    stream: CodecStream

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        self.spy.see(frames)
        return self.stream.push(frames)

    def flush(self) -> NDArray[np.float32]:
        return self.stream.flush()


@pytest.mark.parametrize("fields", range(3))
def test_no_more_is_decoded_again_than_the_next_sample_depends_on(codec: SnacCodec, fields: int) -> None:
    asked = request(**buffers(codec)[fields])
    caller, speech = Caller(asked), [*SMALL_LAYOUT.ids(LONG).tolist(), END]
    caller.hear(Bench(codec, lambda start: speech), 250)
    spy = Spy(codec)
    attempt = caller.attempt()
    Bench(spy, lambda start: speech).pipeline.admit(attempt)
    history = spy.opened[0].history
    assert history is not None
    assert len(history) == codec.context_frames + codec.lookahead_frames
    assert spy.opened[0].history_frame == attempt.next_sample // codec.frame_samples - codec.context_frames


def test_what_another_worker_left_undecoded_is_decoded_over_some_steps(codec: SnacCodec) -> None:
    asked = request(streaming=False)
    speech = [*SMALL_LAYOUT.ids(random_frames(90)).tolist(), END]
    spy = Spy(codec)
    rest = Bench(spy, lambda start: speech).run(asked, Attempt(asked, 7, 2, tuple(speech[: 80 * WIDTH + 2])))
    assert spy.pushed[:3] == [32, 32, 16]
    np.testing.assert_allclose(joined(rest), one_shot(codec, random_frames(90)), rtol=0, atol=1e-5)


# -- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 5, 12])
def test_what_goes_wrong_with_one_sound_ends_it_alone(
    codec: SnacCodec, at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [random_frames(13, seed) for seed in range(3)]
    scripts = {seed: [*SMALL_LAYOUT.ids(one).tolist(), END] for seed, one in enumerate(frames)}
    asked = {replace(request(), request_id=RequestID()): seed for seed in range(3)}
    expected = together(Bench(codec, lambda start: scripts[start.seed]), asked)
    spy = Spy(codec, poison=frames[1][at])
    found = together(Bench(spy, lambda start: scripts[start.seed]), asked)
    for one, seed in asked.items():
        chunks = found[one.request_id]
        last = outputs(chunks)[-1]
        assert [output.metadata.chunk_id for output in outputs(chunks)] == list(range(len(outputs(chunks))))
        if seed != 1:
            assert tokens_of(chunks) == tuple(scripts[seed])
            np.testing.assert_array_equal(joined(chunks), joined(expected[one.request_id]))
            continue
        assert last.final_status is GenerationStatus.FAILED
        assert last.failure is not None
        assert (last.failure.kind, last.failure.message) == (FailureKind.WORKER_ERROR, "RuntimeError: no such sound")
        assert tokens_of(chunks) == tuple(scripts[seed])[: len(tokens_of(chunks))]
    assert "no such sound" in capsys.readouterr().err


def test_one_that_has_failed_is_not_stepped_again(codec: SnacCodec) -> None:
    bench, asked = Bench(Spy(codec, poison=FRAMES[0])), request()
    bench.pipeline.admit(Attempt(asked, seed=7))
    last = [chunk for _ in range(30) for chunk in bench.pipeline.execute([asked.request_id])][-1]
    assert last.output is not None
    assert last.output.final_status is GenerationStatus.FAILED
    assert bench.generator.given == {asked.request_id: WIDTH}
    bench.pipeline.release(asked.request_id)
    assert bench.generator.given == {}
    assert outputs(Bench(codec).run(asked))[-1].final_status is GenerationStatus.END_OF_SEQUENCE


def test_a_lost_device_is_nobodys_fault(codec: SnacCodec) -> None:
    bench, asked = Bench(Spy(codec, FRAMES[0], DeviceLost("gone"))), request()
    with pytest.raises(DeviceLost, match="gone"):
        bench.run(asked)


def test_what_the_engine_raises_passes(codec: SnacCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, asked = Bench(codec), request()
    bench.pipeline.admit(Attempt(asked, seed=7))

    def step(generator: ScriptedGenerator, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        raise RuntimeError("no step")

    monkeypatch.setattr(ScriptedGenerator, "step", step)
    with pytest.raises(RuntimeError, match="no step"):
        bench.pipeline.execute([asked.request_id])
