"""The silence that a sound begins with, by itself and over the pipeline, whoever goes on with it."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.format import SpeechFormat
from max_codecs.prompt import Voice
from max_codecs.sound.loudness import amplified
from max_codecs.sound.silence import AUDIBLE
from max_interfaces import Attempt, AudioGenerationOutput, AudioGenerationRequest, Chunk, RequestID, StreamStart
from max_pipelines.config import SpeechConfig
from max_pipelines.speech.leading import KEPT_S, LeadingSilence
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.speech.prompting import SpeechPrompter
from tests.fakes import END, SMALL_LAYOUT, CharTokenizer, ScriptedGenerator

RATE, FRAME = 1000, 96
LIMIT_S = 0.5
KEPT = round(KEPT_S * RATE)
Samples = NDArray[np.float32]
Chunks = list[Chunk[AudioGenerationOutput]]


def sound(quiet: int, loud: int) -> Samples:
    return np.concatenate([np.full(quiet, AUDIBLE / 2, np.float32), np.full(loud, 0.5, np.float32)])


def pushed(samples: Samples, sizes: list[int]) -> tuple[Samples, int | None]:
    silence, out = LeadingSilence(RATE, LIMIT_S), []
    for size in sizes:
        out.append(silence.push(samples[:size], False))
        samples = samples[size:]
    out.append(silence.push(samples, True))
    return np.concatenate(out), silence.trimmed


@given(st.integers(0, 900), st.integers(1, 300), st.lists(st.integers(0, 300), max_size=8))
def test_silence_before_what_is_heard_is_left_out_within_a_bound(quiet: int, loud: int, sizes: list[int]) -> None:
    whole = sound(quiet, loud)
    left, trimmed = pushed(whole, sizes)
    assert trimmed == min(round(LIMIT_S * RATE), max(0, quiet - KEPT))
    assert left.size == whole.size - trimmed
    assert np.array_equal(left[-loud:], whole[-loud:])  # a tail is never cut, and what is heard stays as it is
    if trimmed:
        assert left[0] == 0.0  # faded in, so that the cut cannot be heard
    else:
        assert np.array_equal(left, whole)


@given(st.integers(0, 400), st.lists(st.integers(0, 300), max_size=8))
def test_a_sound_in_which_nothing_is_heard_is_left_as_it_is(quiet: int, sizes: list[int]) -> None:
    left, trimmed = pushed(sound(quiet, 0), sizes)
    assert (left.size, trimmed) == (quiet, 0)


# -- over the pipeline -----------------------------------------------------------------------------------------------


@dataclass
class Level:
    """A codec whose first code is how loud a frame is, in 64ths."""

    sample_rate: int = RATE
    frame_samples: int = FRAME
    codes_per_frame: int = 7
    lookahead_frames: int = 0
    context_frames: int = 0

    def open(self, start: StreamStart) -> LevelStream:
        history = np.zeros((0, 7), np.int64) if start.history is None else start.history
        return LevelStream(levels(history)[max(0, start.next_sample - start.history_frame * FRAME) :])


def levels(frames: NDArray[np.int64]) -> Samples:
    return np.repeat(frames[:, 0] / np.float32(64), FRAME).astype(np.float32)


@dataclass
class LevelStream:
    unheard: Samples = field(default_factory=lambda: np.zeros(0, np.float32))

    def push(self, frames: NDArray[np.int64]) -> Samples:
        samples, self.unheard = np.concatenate([self.unheard, levels(frames)]), self.unheard[:0]
        return samples

    def flush(self) -> Samples:
        return self.push(np.zeros((0, 7), np.int64))


def frames_of(quiet: int, loud: int) -> NDArray[np.int64]:
    frames = np.zeros((quiet + loud, 7), np.int64)
    frames[quiet:, 0] = 20 + np.arange(loud) % 8
    return frames


def worker(frames: NDArray[np.int64], gain_db: float = 0.0, trim_silence_s: float = LIMIT_S) -> SpeechPipeline:
    speech = [*SMALL_LAYOUT.ids(frames).tolist(), END]
    prompt = msgspec.structs.replace(SMALL_LAYOUT.prompt, voices=(Voice("ann", (6,), gain_db),))
    form = SpeechFormat(msgspec.structs.replace(SMALL_LAYOUT, prompt=prompt))
    config = SpeechConfig(trim_silence_s=trim_silence_s)
    generator = ScriptedGenerator(lambda start: speech)
    return SpeechPipeline(form, config, SpeechPrompter(form, CharTokenizer()), generator, Level(), 2000)


def chunks_of(served: SpeechPipeline, attempt: Attempt[AudioGenerationRequest], steps: int | None = None) -> Chunks:
    served.admit(attempt)
    chunks: Chunks = []
    taken = 0
    while taken != steps and not (chunks and chunks[-1].output is not None and chunks[-1].output.is_done):
        chunks += served.execute([attempt.request.request_id])
        taken += 1
    return chunks


def samples_of(chunks: Chunks) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *[c.output.audio_data for c in chunks if c.output is not None]])


def asked(**fields: object) -> AudioGenerationRequest:
    return AudioGenerationRequest(RequestID(), "m", "hi", **fields)  # type: ignore[arg-type]


def test_the_first_sample_is_soon_heard_and_its_place_is_told() -> None:
    chunks = chunks_of(worker(frames_of(4, 6)), Attempt(asked()))
    first = next(chunk for chunk in chunks if chunk.output is not None)
    assert first.first_sample == 4 * FRAME - KEPT
    assert first.output is not None
    assert first.output.metadata.leading_silence == first.first_sample / RATE
    assert samples_of(chunks).size == KEPT + 6 * FRAME
    others = [chunk.output for chunk in chunks if chunk.output is not None and chunk is not first]
    assert {output.metadata.leading_silence for output in others} == {None}


def test_silence_is_left_in_where_that_is_wanted_or_the_sound_goes_on() -> None:
    frames = frames_of(4, 6)
    assert np.array_equal(samples_of(chunks_of(worker(frames, trim_silence_s=0), Attempt(asked()))), levels(frames))
    follow_up = asked(buffer_speech_tokens=SMALL_LAYOUT.ids(frames[:1]))
    assert np.array_equal(samples_of(chunks_of(worker(frames), Attempt(follow_up))), levels(frames))


def test_one_output_is_the_joined_stream() -> None:
    frames = frames_of(4, 6)
    whole = chunks_of(worker(frames), Attempt(asked(streaming=False)))
    assert np.array_equal(samples_of(whole), samples_of(chunks_of(worker(frames), Attempt(asked()))))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 8), st.integers(1, 6), st.integers(0, 110), st.sampled_from([0.0, -3.0, 20.0]))
def test_whoever_goes_on_with_a_sound_gives_the_same_samples(quiet: int, loud: int, cut: int, gain: float) -> None:
    frames = frames_of(quiet, loud)
    request = asked()
    whole = chunks_of(worker(frames, gain), Attempt(request, seed=1))
    heard = chunks_of(worker(frames, gain), Attempt(request, seed=1), cut)
    told = [chunk for chunk in heard if chunk.output is not None]
    attempt = Attempt(
        request,
        seed=1,
        number=2,
        tokens=tuple(token for chunk in heard for token in chunk.tokens),
        next_sample=told[-1].first_sample + told[-1].samples if told else 0,
        next_seq=len(told),
    )
    if told and told[-1].output is not None and told[-1].output.is_done:
        return
    rest = chunks_of(worker(frames, gain), attempt)
    assert np.array_equal(samples_of([*heard, *rest]), samples_of(whole))


@pytest.mark.parametrize("gain", [-6.0, 6.0, 20.0])
def test_a_voices_gain_is_in_its_sound_and_never_clips(gain: float) -> None:
    frames = frames_of(0, 6)
    samples = samples_of(chunks_of(worker(frames, gain), Attempt(asked())))
    assert np.array_equal(samples, amplified(levels(frames), gain))
    assert np.abs(samples).max() <= 1.0
