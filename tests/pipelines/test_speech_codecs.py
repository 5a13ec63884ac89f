"""Speech over Mimi, DAC and EnCodec, codebooks late or not: streamed, and resumed wherever a worker was lost."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.delays import DelayFormat, delayed
from max_codecs.format import SpeechFormat
from max_codecs.layout import SpeechLayout
from max_codecs.pretrained.dac import dac_codec
from max_codecs.pretrained.encodec import encodec_codec
from max_codecs.pretrained.mimi import mimi_codec
from max_codecs.slots import depth_first
from max_interfaces import Attempt, AudioGenerationOutput, AudioGenerationRequest, Chunk, RequestID
from max_interfaces.audio import MAX_SPEECH_TOKENS
from max_pipelines.config import SpeechConfig
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.speech.prompting import SpeechPrompter
from tests.fakes import END, SMALL_LAYOUT, CharTokenizer, ScriptedGenerator
from tests.tiny_codecs import CODES, LEVELS, Codec, random_codes, tiny_dac, tiny_encodec, tiny_mimi, whole

MODELS: dict[str, Codec] = {"mimi": tiny_mimi(), "dac": tiny_dac(), "encodec": tiny_encodec()}
CODECS = {
    "mimi": mimi_codec(tiny_mimi()),
    "dac": dac_codec(tiny_dac()),
    "encodec": encodec_codec(tiny_encodec()),
}
FLAT = SpeechLayout(100, CODES, (END,), SMALL_LAYOUT.prompt, depth_first((1,) * LEVELS))
LATE = msgspec.structs.replace(
    FLAT, ids_per_slot=CODES + 3, delays=DelayFormat((0, 2, 3), before=CODES, after=CODES + 1, end=CODES + 2)
)
FRAMES = random_codes(40)


def written(layout: SpeechLayout, frames: NDArray[np.int64]) -> list[int]:
    """All ids that the model says of some frames."""
    if layout.delays is None:
        return [*layout.ids(frames).tolist(), END]
    steps = delayed(frames, layout.slot_delays, layout.delays) + 100 + np.array(layout.offsets)
    return [*steps.ravel().tolist(), END]


def pipeline(kind: str, layout: SpeechLayout, speech: list[int]) -> SpeechPipeline:
    form = SpeechFormat(layout)
    prompter = SpeechPrompter(form, CharTokenizer())
    config = SpeechConfig(chunk_frames=(1, 2, 4), trim_silence_s=0)
    return SpeechPipeline(form, config, prompter, ScriptedGenerator(lambda start: speech), CODECS[kind], 2000)


def chunks_of(
    served: SpeechPipeline, attempt: Attempt[AudioGenerationRequest], steps: int | None = None
) -> list[Chunk[AudioGenerationOutput]]:
    """What a worker gives, to the end or for some steps."""
    served.admit(attempt)
    chunks: list[Chunk[AudioGenerationOutput]] = []
    taken = 0
    while taken != steps and not (chunks and chunks[-1].output is not None and chunks[-1].output.is_done):
        chunks += served.execute([attempt.request.request_id])
        taken += 1
    return chunks


def sound_of(chunks: list[Chunk[AudioGenerationOutput]]) -> NDArray[np.float32]:
    return np.concatenate([np.zeros(0, np.float32), *[c.output.audio_data for c in chunks if c.output is not None]])


@pytest.mark.parametrize("layout", [FLAT, LATE], ids=["flat", "late"])
@pytest.mark.parametrize("kind", list(CODECS))
def test_what_is_heard_is_what_transformers_decodes(kind: str, layout: SpeechLayout) -> None:
    request = AudioGenerationRequest(RequestID(), "m", "hi")
    chunks = chunks_of(pipeline(kind, layout, written(layout, FRAMES)), Attempt(request))
    np.testing.assert_allclose(sound_of(chunks), whole(MODELS[kind], FRAMES), rtol=0, atol=1e-5)
    assert sum(chunk.samples > 0 for chunk in chunks) > 5


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(sorted(CODECS)), late=st.booleans(), cut=st.integers(0, 120))
def test_a_sound_goes_on_exactly_where_a_worker_was_lost(kind: str, late: bool, cut: int) -> None:
    layout = LATE if late else FLAT
    speech = written(layout, FRAMES)
    request = AudioGenerationRequest(RequestID(), "m", "hi")
    heard = chunks_of(pipeline(kind, layout, speech), Attempt(request), cut)
    attempt = Attempt(
        request,
        number=2,
        tokens=tuple(token for chunk in heard for token in chunk.tokens),
        next_sample=sum(chunk.samples for chunk in heard),
        next_seq=sum(chunk.output is not None for chunk in heard),
    )
    rest = chunks_of(pipeline(kind, layout, speech), attempt)
    np.testing.assert_allclose(sound_of([*heard, *rest]), whole(MODELS[kind], FRAMES), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", list(CODECS))
def test_a_follow_up_joins_without_a_seam(kind: str) -> None:
    first = AudioGenerationRequest(RequestID(), "m", "hi", to_be_continued=True)
    chunks = chunks_of(pipeline(kind, FLAT, written(FLAT, FRAMES[:23])), Attempt(first))
    end = chunks[-1].output
    assert end is not None
    follow_up = AudioGenerationRequest(
        RequestID(), "m", "ho", buffer_speech_tokens=end.buffer_speech_tokens, buffer_position=end.buffer_position
    )
    chunks += chunks_of(pipeline(kind, FLAT, written(FLAT, FRAMES[23:])), Attempt(follow_up))
    np.testing.assert_allclose(sound_of(chunks), whole(MODELS[kind], FRAMES), rtol=0, atol=1e-5)


def test_a_buffer_holds_no_more_than_may_travel() -> None:
    """EnCodec would want all frames there were; a sound of more than that has to end well, too."""
    frames = random_codes(MAX_SPEECH_TOKENS // LEVELS + 5)
    speech = written(FLAT, frames)
    served = SpeechPipeline(
        SpeechFormat(FLAT),
        SpeechConfig(chunk_frames=(4096,), trim_silence_s=0),
        SpeechPrompter(SpeechFormat(FLAT), CharTokenizer()),
        ScriptedGenerator(lambda start: speech, stride=4096 * LEVELS),
        CODECS["encodec"],
        2000,
    )
    end = chunks_of(served, Attempt(AudioGenerationRequest(RequestID(), "m", "hi")))[-1].output
    assert end is not None
    assert end.buffer_speech_tokens is not None
    assert end.buffer_position is not None
    assert len(end.buffer_speech_tokens) == MAX_SPEECH_TOKENS // LEVELS * LEVELS
    assert end.buffer_position.frame == 5
