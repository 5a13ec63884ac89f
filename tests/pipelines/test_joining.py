"""Sounds of several requests as one: what is silent between them, and that all that can be heard is there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_interfaces import AudioGenerationMetadata, AudioGenerationOutput, GenerationStatus, WordTimestamp
from max_interfaces.messages import ModelInfo
from max_pipelines.client.joining import Joiner
from max_pipelines.client.transcript import Transcript
from max_pipelines.speech.splitting import Part
from tests.hearing import AUDIBLE

RATE = 1000
LEAST, MOST, FADE, KEPT = 250, 600, 5, 50
INFO = ModelInfo("m", "audio_generation", RATE, shortest_pause_s=0.25, longest_pause_s=0.6)
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Said:
    """A part's sound: silence, something loud, silence; and the sizes of its chunks."""

    before: int
    loud: int
    behind: int
    chunks: tuple[int, ...]
    joined: bool = False
    said_late: bool = False  # its word is told with its last output, else with its first

    @property
    def samples(self) -> Samples:
        quiet = np.float32(AUDIBLE / 2)  # no digital silence: what is kept of it can be told
        sizes = (self.before, self.loud, self.behind)
        return np.concatenate([np.full(n, v, np.float32) for n, v in zip(sizes, (quiet, 0.5, quiet), strict=True)])

    @property
    def outputs(self) -> list[AudioGenerationOutput]:
        left, pieces = self.samples, []
        for size in self.chunks:
            pieces.append(left[:size])
            left = left[size:]
        pieces.append(left)
        states = [GenerationStatus.ACTIVE] * (len(pieces) - 1) + [GenerationStatus.END_OF_SEQUENCE]
        words: list[tuple[WordTimestamp, ...]] = [()] * len(pieces)
        words[-1 if self.said_late else 0] = self.words
        return [
            AudioGenerationOutput(state, 1, piece, metadata=AudioGenerationMetadata(prompt_tokens=3, words=told))
            for state, piece, told in zip(states, pieces, words, strict=True)
        ]

    @property
    def words(self) -> tuple[WordTimestamp, ...]:
        """One, which is what is loud."""
        return (WordTimestamp("x", self.before / RATE, (self.before + self.loud) / RATE, 0, 1),)


def joined(parts: list[Said], *, last_is_known: bool) -> list[AudioGenerationOutput]:
    joiner, outputs = Joiner(INFO, Transcript("x " * len(parts))), []
    for number, said in enumerate(parts):
        last = last_is_known and number + 1 == len(parts)
        outputs += [joiner.join(output, Part("x", said.joined), last) for output in said.outputs]
    if not joiner.ended:
        outputs.append(joiner.end())
    return outputs


def heard(outputs: list[AudioGenerationOutput]) -> Samples:
    return np.concatenate([output.audio_data for output in outputs])


def gaps(samples: Samples) -> list[int]:
    loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
    steps = np.diff(loud)
    return [int(step) - 1 for step in steps[steps > 1]]


quiet = st.integers(0, 900)
chunks = st.lists(st.integers(0, 400), max_size=6).map(tuple)
said = st.builds(Said, quiet, st.integers(20, 400), quiet, chunks, said_late=st.booleans())


@given(st.lists(said, min_size=1, max_size=4), st.booleans())
def test_pauses_are_of_natural_length_and_nothing_heard_is_lost(parts: list[Said], known: bool) -> None:
    sound = heard(joined(parts, last_is_known=known))
    for one, following, pause in zip(parts, parts[1:], gaps(sound), strict=False):
        natural = one.behind + following.before
        assert 0 <= pause - min(max(natural, LEAST), MOST) <= 2 * FADE  # what is loud up to its end is faded
    assert len(gaps(sound)) == len(parts) - 1
    loud = np.flatnonzero(sound > AUDIBLE)
    faded = FADE * (2 * (len(parts) - 1) + (not known))  # where more may come, a part ends softly
    assert sum(one.loud for one in parts) - faded <= loud.size <= sum(one.loud for one in parts)
    end = sound.size - 1 - loud[-1] - parts[-1].behind
    assert loud[0] == parts[0].before  # neither end is cut
    assert 0 <= end <= (0 if known else FADE)


@given(st.lists(said, min_size=1, max_size=4))
def test_all_of_a_part_is_given_out_when_it_has_ended(parts: list[Said]) -> None:
    """All that can be heard, and what silence is in the pause whatever follows: a listener has nothing else to play."""
    joiner = Joiner(INFO, Transcript())
    for said in parts:
        sound = heard([joiner.join(output, Part("x"), False) for output in said.outputs])
        loud = np.flatnonzero(sound > AUDIBLE)
        assert said.loud - 2 * FADE <= loud.size <= said.loud
        assert 0 <= sound.size - 1 - loud[-1] - min(said.behind, MOST - KEPT) <= FADE
    rest = joiner.end().audio_data
    assert rest.size == max(0, parts[-1].behind - (MOST - KEPT))


@given(said)
def test_while_a_part_goes_on_only_silence_above_the_shortest_pause_is_held(said: Said) -> None:
    joiner, whole, given_out = Joiner(INFO, Transcript()), 0, 0
    for output in said.outputs[:-1]:
        whole += output.audio_data.size
        given_out += joiner.join(output, Part("x"), False).audio_data.size
        silent = whole if whole <= said.before else max(0, whole - said.before - said.loud)
        assert whole - given_out <= max(FADE, silent - LEAST)


@given(said, said)
def test_the_next_part_is_heard_behind_what_is_missing_to_the_pause(first: Said, second: Said) -> None:
    joiner = Joiner(INFO, Transcript())
    for output in first.outputs:
        joiner.join(output, Part("x"), False)
    (only,) = Said(second.before, second.loud, 0, ()).outputs
    start = int(np.flatnonzero(joiner.join(only, Part("x"), True).audio_data > AUDIBLE)[0])
    pause = min(max(first.behind + second.before, LEAST), MOST)
    assert 0 <= start - (pause - min(first.behind, MOST - KEPT)) <= FADE


@given(st.integers(0, 900), st.lists(st.integers(1, 300), min_size=1, max_size=6))
def test_silence_before_the_next_part_comes_as_it_is_made(behind: int, sizes: list[int]) -> None:
    """As far as it is in the pause for certain; at the end of the whole nothing of it is lost, and nothing added."""
    joiner, given_out, made = Joiner(INFO, Transcript()), 0, 100 + behind
    for said in (Said(0, 100, behind, ()), Said(sum(sizes), 0, 0, tuple(sizes))):
        for output in said.outputs:
            given_out += joiner.join(output, Part("x"), False).audio_data.size
    made += sum(sizes)
    assert given_out >= min(made - KEPT, 100 + MOST - KEPT)
    assert given_out + joiner.end().audio_data.size == made


@given(st.lists(said, min_size=1, max_size=4), st.booleans())
def test_words_are_where_they_are_heard(parts: list[Said], known: bool) -> None:
    outputs = joined(parts, last_is_known=known)
    sound, words = heard(outputs), [word for output in outputs for word in output.metadata.words]
    loud = np.flatnonzero(np.abs(sound) > AUDIBLE)
    breaks = np.flatnonzero(np.diff(loud) > 1)
    starts, ends = loud[[0, *(breaks + 1)]], loud[[*breaks, -1]] + 1
    assert len(words) == len(parts)
    for number, (word, start, end) in enumerate(zip(words, starts, ends, strict=True)):
        assert 0 <= start - round(word.start * RATE) <= FADE
        assert 0 <= round(word.end * RATE) - end <= FADE
        assert word.text_start == 2 * number


def test_a_word_that_ends_in_silence_ends_before_what_is_cut_of_it() -> None:
    (output,) = Said(0, 300, 1500, ()).outputs
    words = (WordTimestamp("x", 0.0, 1.6, 0, 1),)
    output = replace(output, metadata=replace(output.metadata, words=words))
    joiner = Joiner(INFO, Transcript("x x"))
    first = joiner.join(output, Part("x"), False)
    second = joiner.join(Said(0, 100, 0, ()).outputs[0], Part("x"), True)
    (ended,), (begun,) = first.metadata.words, second.metadata.words
    assert ended.end == first.audio_data.size / RATE
    assert ended.end <= begun.start
    (word,) = Joiner(INFO, Transcript("x")).join(output, Part("x"), True).metadata.words
    assert word.end == 1.6  # at the end of the whole nothing is cut


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("late", [True, False])
def test_words_of_what_cannot_be_heard_wait_for_its_place(known: bool, late: bool) -> None:
    begun, silent = Said(100, 0, 600, (100, 100), said_late=late), Said(700, 0, 0, (100, 100), said_late=late)
    parts = [Said(10, 50, 100, ()), begun, silent, Said(50, 50, 20, ())]
    words = [word for output in joined(parts, last_is_known=known) for word in output.metadata.words]
    last = 10 + 50 + MOST
    assert [round(word.start * RATE) for word in words] == [10, 10 + 50 + 100 + 100, last - KEPT, last]


@given(said, said)
def test_within_a_sentence_nothing_is_changed(first: Said, second: Said) -> None:
    flowing = Said(first.before, first.loud, first.behind, first.chunks, joined=True)
    sound = heard(joined([flowing, second], last_is_known=True))
    assert np.array_equal(sound, np.concatenate([first.samples, second.samples]))


@given(st.lists(said, min_size=1, max_size=3), st.booleans())
def test_outputs_are_numbered_through_and_end_once(parts: list[Said], known: bool) -> None:
    outputs = joined(parts, last_is_known=known)
    assert [output.metadata.chunk_id for output in outputs] == list(range(len(outputs)))
    assert [output.is_done for output in outputs] == [False] * (len(outputs) - 1) + [True]
    assert sum(output.steps_executed for output in outputs) == sum(len(one.chunks) + 1 for one in parts)
    assert outputs[-1].metadata.prompt_tokens == 3 * len(parts)


def test_the_pause_is_faded_into_and_out_of() -> None:
    """A part that ends in the middle of something loud."""
    sound = heard(joined([Said(0, 100, 0, ()), Said(0, 100, 0, ())], last_is_known=True))
    assert np.abs(np.diff(sound)).max() < 0.2
    assert len(sound) == 200 + LEAST


@pytest.mark.parametrize("known", [True, False])
def test_a_part_in_which_nothing_is_heard_makes_no_second_pause(known: bool) -> None:
    parts = [Said(10, 50, 100, ()), Said(300, 0, 0, (100, 100)), Said(50, 50, 20, ())]
    sound = heard(joined(parts, last_is_known=known))
    assert len(gaps(sound)) == 1
    assert LEAST <= gaps(sound)[0] <= MOST
    silent_end = heard(joined(parts[:2], last_is_known=known))
    assert len(silent_end) == 10 + 50 + 100 + 300
