"""When the words of a request are heard, at the pipeline's border: each once, whatever happens on the way."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.constraint import PhaseBounds
from max_codecs.format import SpeechFormat
from max_codecs.snac.codec import SnacCodec
from max_codecs.spoken_words import PhoneHead
from max_interfaces import (
    Attempt,
    AudioCodec,
    AudioGenerationOutput,
    AudioGenerationRequest,
    Chunk,
    ConfigError,
    StreamStart,
    WordTimestamp,
)
from max_pipelines.client.transcript import Transcript
from max_pipelines.config import SpeechConfig
from max_pipelines.speech.pipeline import SpeechPipeline
from max_pipelines.speech.prompting import SpeechPrompter
from max_pipelines.speech.text_words import words_of, written_words
from max_pipelines.speech.word_times import clock_of
from max_voices.text import read, spell
from tests.codecs.test_spoken_words import FINE, LAYOUT, STEPS, CodesHead, Said, say
from tests.fakes import CharTokenizer, ScriptedGenerator, small_codec
from tests.pipelines.test_speech_pipeline import Caller, outputs, request

TEXT = "It costs $5 million — or\n 7, says Bob."  # it costs | five million dollars | or seven | says bob
SAID = say(
    [
        [[(1, 4), (2, 3)], [(3, 5)]],
        [[(1, 4)], [(2, 6), (1, 2)], [(4, 9)]],
        [[(5, 7)], [(6, 5)]],
        [[(1, 4)], [(2, 6)]],
    ],
    [2, 0, 1, 3],
)
WORDS = ("It", "costs", "$5 million", "or", "7,", "says", "Bob.")
FIRST_OF = (0, 1, 2, 5, 6, 7, 8)  # of the words that are spoken
LAST_OF = (0, 1, 4, 5, 6, 7, 8)


def hearing_codec(kind: str) -> SnacCodec:
    codec = small_codec(causal=kind == "causal")
    codec.phone_head = CodesHead()
    return codec


CODECS = {kind: hearing_codec(kind) for kind in ("causal", "symmetric")}


def bench(
    codec: AudioCodec,
    said: Said = SAID,
    chunk_frames: tuple[int, ...] = (1, 2, 4),
    stride: int = 1,
    trim_silence_s: float = 0.0,
) -> SpeechPipeline:
    form = SpeechFormat(LAYOUT, phases=PhaseBounds(), spell=True)
    prompter = SpeechPrompter(form, CharTokenizer())
    generator = ScriptedGenerator(lambda start: said.tokens, stride)
    config = SpeechConfig(chunk_frames=chunk_frames, trim_silence_s=trim_silence_s)
    clock = clock_of(LAYOUT, codec, prompter.read)
    return SpeechPipeline(form, config, prompter, generator, codec, 2000, clock)


def run(pipeline: SpeechPipeline, attempt: Attempt[AudioGenerationRequest]) -> list[Chunk[AudioGenerationOutput]]:
    chunks: list[Chunk[AudioGenerationOutput]] = []
    pipeline.admit(attempt)
    while not any(output.is_done for output in outputs(chunks[-1:])):
        chunks += pipeline.execute([attempt.request.request_id])
    pipeline.release(attempt.request.request_id)
    return chunks


def told(chunks: Sequence[Chunk[AudioGenerationOutput]]) -> list[WordTimestamp]:
    return [word for output in outputs(list(chunks)) for word in output.metadata.words]


def expected(codec: SnacCodec, said: Said = SAID) -> list[WordTimestamp]:
    step, rate = codec.frame_samples / STEPS, codec.sample_rate
    spans = [
        (said.words[first][0] * step / rate, said.words[last][1] * step / rate)
        for first, last in zip(FIRST_OF, LAST_OF, strict=True)
    ]
    places = [(TEXT.index(word), TEXT.index(word) + len(word)) for word in WORDS]
    return [WordTimestamp(word, *span, *place) for word, span, place in zip(WORDS, spans, places, strict=True)]


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("chunk_frames", [(1,), (1, 2, 4), (50,)])
@pytest.mark.parametrize("stride", [1, 5])
def test_words_are_told_where_they_sound(kind: str, chunk_frames: tuple[int, ...], stride: int) -> None:
    codec = CODECS[kind]
    pipeline = bench(codec, chunk_frames=chunk_frames, stride=stride)
    assert told(run(pipeline, Attempt(request(input=TEXT, word_timestamps=True), seed=7))) == expected(codec)


def test_words_come_with_the_sound_and_in_one_output_without_streaming() -> None:
    codec = CODECS["causal"]
    streamed = outputs(run(bench(codec), Attempt(request(input=TEXT, word_timestamps=True), seed=7)))
    assert sum(bool(output.metadata.words) for output in streamed) > 2
    whole = outputs(run(bench(codec), Attempt(request(input=TEXT, word_timestamps=True, streaming=False), seed=7)))
    assert list(whole[-1].metadata.words) == expected(codec)


def test_who_does_not_ask_is_told_nothing() -> None:
    assert told(run(bench(CODECS["causal"]), Attempt(request(input=TEXT), seed=7))) == []


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(sorted(CODECS)), st.lists(st.integers(1, 60), max_size=4), st.sampled_from([(1,), (1, 2, 4)]))
def test_after_lost_workers_each_word_has_been_told_once(
    kind: str, lives: list[int], chunk_frames: tuple[int, ...]
) -> None:
    codec = CODECS[kind]
    caller = Caller(request(input=TEXT, word_timestamps=True))
    for steps in lives:
        pipeline = bench(codec, chunk_frames=chunk_frames)
        pipeline.admit(caller.attempt())
        for _ in range(steps):
            caller.chunks += pipeline.execute([caller.asked.request_id])
            if any(output.is_done for output in outputs(caller.chunks[-1:])):
                break
        else:
            continue
        break
    else:
        caller.chunks += run(bench(codec, chunk_frames=chunk_frames), caller.attempt())
    assert told(caller.chunks) == expected(codec)


@pytest.mark.parametrize("kind", CODECS)
def test_a_follow_up_counts_from_its_own_beginning(kind: str) -> None:
    codec = CODECS[kind]
    asked = request(input=TEXT, word_timestamps=True, to_be_continued=True)
    begun = outputs(run(bench(codec), Attempt(asked, seed=7)))
    assert [word for output in begun for word in output.metadata.words] == expected(codec)
    withheld = len(SAID.steps) // STEPS * codec.frame_samples - sum(output.audio_data.size for output in begun)
    follow_up = request(
        input=TEXT,
        word_timestamps=True,
        buffer_speech_tokens=begun[-1].buffer_speech_tokens,
        buffer_position=begun[-1].buffer_position,
    )
    words = told(run(bench(codec), Attempt(follow_up, seed=9)))
    shift = withheld / codec.sample_rate  # what the request before has kept back is heard first
    for word, same in zip(words, expected(codec), strict=True):
        assert word.start == pytest.approx(same.start + shift)
        assert word.end == pytest.approx(same.end + shift)


# -- silence at the beginning that nobody hears ----------------------------------------------------------------------

LATE = say([[[(1, 4), (2, 3)], [(3, 5)]], [[(1, 4)], [(2, 6), (1, 2)], [(4, 9)]]], [19, 3])  # steps: 475 ms of silence
LATE_TEXT = "It costs $5 now"


class LoudCodec:
    """Each step is as loud as the number of its phone: a pause is silent."""

    sample_rate, frame_samples, codes_per_frame, lookahead_frames, context_frames = 1000, 100, 7, 0, 0
    phone_head: PhoneHead | None = CodesHead()

    def open(self, start: StreamStart) -> LoudStream:
        history = np.zeros((0, 7), np.int64) if start.history is None else start.history
        return LoudStream(loudness(history)[max(0, start.next_sample - start.history_frame * self.frame_samples) :])


def loudness(frames: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.repeat(frames[:, FINE].reshape(-1) / np.float32(8), 100 // STEPS).astype(np.float32)


class LoudStream:
    def __init__(self, unheard: NDArray[np.float32]) -> None:
        self._unheard = unheard

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        samples, self._unheard = np.concatenate([self._unheard, loudness(frames)]), self._unheard[:0]
        return samples

    def flush(self) -> NDArray[np.float32]:
        return self.push(np.zeros((0, 7), np.int64))


def test_times_count_from_the_first_sample_that_is_heard() -> None:
    asked = request(input=LATE_TEXT, word_timestamps=True)
    for trim_s, trimmed_s in ((0.0, 0.0), (0.3, 0.3), (0.5, 0.425)):  # up to the bound, and but for 50 ms
        chunks = run(bench(LoudCodec(), LATE, trim_silence_s=trim_s), Attempt(asked, seed=7))
        samples = np.concatenate([output.audio_data for output in outputs(chunks)])
        words = told(chunks)
        assert [word.word for word in words] == LATE_TEXT.split()
        assert words[0].start == pytest.approx(0.475 - trimmed_s)
        for word in words:
            start = round(word.start * 1000)
            assert samples[start] > 0.01
            assert samples[start - 1] != samples[start]


def told_after(lives: list[int], trim_s: float, chunk_frames: tuple[int, ...]) -> list[WordTimestamp]:
    """What a caller is told whose workers each lived for so many steps."""
    caller = Caller(request(input=LATE_TEXT, word_timestamps=True))
    for steps in [*lives, 1000]:
        pipeline = bench(LoudCodec(), LATE, chunk_frames, trim_silence_s=trim_s)
        pipeline.admit(caller.attempt())
        for _ in range(steps):
            caller.chunks += pipeline.execute([caller.asked.request_id])
            if any(output.is_done for output in outputs(caller.chunks[-1:])):
                return told(caller.chunks)
    raise AssertionError("has no end")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=1, max_size=4),
    st.sampled_from([0.3, 0.5]),
    st.sampled_from([(1,), (1, 2, 4)]),
)
def test_they_do_so_whoever_goes_on_with_the_sound(
    lives: list[int], trim_s: float, chunk_frames: tuple[int, ...]
) -> None:
    assert told_after(lives, trim_s, chunk_frames) == told_after([], trim_s, chunk_frames)


# -- what cannot be done ---------------------------------------------------------------------------------------------


def test_a_voice_that_cannot_tell_refuses_by_name() -> None:
    pipeline = bench(small_codec(causal=True))
    with pytest.raises(ValueError, match="word_timestamps: this voice cannot tell"):
        pipeline.admit(Attempt(request(word_timestamps=True), seed=7))
    with pytest.raises(ValueError, match="word_timestamps = True: needs input and no prompt"):
        request(input=None, prompt=[1], word_timestamps=True)


def test_a_codec_that_does_not_fit_the_model_is_refused_at_the_start() -> None:
    phones = msgspec.structs.replace(LAYOUT.phones, phones=((50, 60),)) if LAYOUT.phones else None
    with pytest.raises(ConfigError, match=r"codec\.path: the model writes the phones"):
        clock_of(msgspec.structs.replace(LAYOUT, phones=phones), CODECS["causal"], lambda text, normalize: text)


def test_more_words_than_were_given_have_no_place_and_missing_ones_no_time() -> None:
    codec = CODECS["causal"]
    words = told(run(bench(codec), Attempt(request(input="It costs nothing", word_timestamps=True))))
    assert [word.word for word in words] == ["It", "costs", "nothing"]
    many = told(run(bench(codec), Attempt(request(input=TEXT + " And so on.", word_timestamps=True))))
    assert many == expected(codec)
    cut = told(run(bench(codec), Attempt(request(input="a b c d e f g h $5 million", word_timestamps=True))))
    assert cut[-1].word == "$5 million"  # of which it said one word


# -- the words of a text ---------------------------------------------------------------------------------------------

PIECES = (
    "Hello,",
    "it's",
    "$5",
    "million",
    "7",
    "—",
    "10:30",
    "p.m.",
    "e.g.",
    "1942",
    "50%",
    "😀",
    "don't",
    "\n",
    "St.",
    "#3",
    "$3.50",
    "2,500",
    "-7",
    "1st",
    "Nov",
    "30,",
    "2026/11/30",
    "Dr.",
    "kg",
    "10-day",
    "a@b.co",
)
READ = {
    "normalized": partial(read, normalized=True, spelled=True),
    "as it is": partial(read, normalized=False, spelled=True),
    "in any letters": partial(read, normalized=True, spelled=False),
    "neither": partial(read, normalized=False, spelled=False),
}


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8),
    st.sampled_from([" ", "  ", "\n"]),
    st.sampled_from([*READ]),
)
def test_each_spoken_word_is_of_one_written_word(pieces: list[str], space: str, way: str) -> None:
    text, spell = space.join(pieces), READ[way]

    def is_read(word: str) -> bool:
        return bool(words_of(spell(word)))

    found = written_words(text, spell)
    assert sum(one.words for one in found) == len(words_of(spell(text)))
    for one, count in zip(found, accumulate(one.words for one in found), strict=True):
        assert len(words_of(spell(text[: one.end]))) == count  # what was read up to there, and so what is its own
    assert all(early.end <= late.start for early, late in pairwise(found))
    covered = " ".join(text[one.start : one.end] for one in found)
    assert [word for word in text.split() if words_of(spell(word))] == [
        word for word in covered.split() if words_of(spell(word))
    ]
    assert all(not text[one.start].isspace() and not text[one.end - 1].isspace() for one in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, world!", [("Hello,", 1), ("world!", 1)]),
        ("In 1942 we had $5 million.", [("In", 1), ("1942", 3), ("we", 1), ("had", 1), ("$5 million.", 3)]),
        ("Well — yes", [("Well", 1), ("yes", 1)]),
        ("well-known 😀", [("well-known", 2)]),
        ("😀", []),
    ],
)
def test_words_are_as_they_are_written(text: str, words: list[tuple[str, int]]) -> None:
    assert [(text[one.start : one.end], one.words) for one in written_words(text, spell)] == words


class Counting:
    """Notes how much it is given to read."""

    def __init__(self, spell: Callable[[str], str]) -> None:
        self._spell = spell
        self.calls = self.characters = 0

    def __call__(self, text: str) -> str:
        self.calls += 1
        self.characters += len(text)
        return self._spell(text)


def backwards(text: str) -> str:
    """Of which nothing can be cut off."""
    return " ".join(reversed(text.split()))


NUMBERED = " ".join(f"${number} million" for number in range(400))
WHOLE = {  # the bounds of what is read of 4,096 characters: calls, and how many times the text
    "signs behind": ("$5 million" + " —" * 2043, spell, 10, 3),
    "signs before": ("— " * 2043 + "$5 million", spell, 10, 3),
    "a word": ("$" * 4096, spell, 3, 3),
    "few numbers": ("We had $5 million for it, and " + "a b c d e f " * 350, spell, 25, 4),
    "many numbers": (("We had $5 million for it — or " * 150)[:4095], spell, 1500, 19),
    "nothing but numbers": (NUMBERED[:4095], spell, 2500, 19),
    "all words are one": (" ".join(f"w{number}" for number in range(900))[:4096], backwards, 900, 19),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_text_is_not_read_much_more_often_than_it_has_words(kind: str) -> None:
    text, way, calls, times = WHOLE[kind]
    counting = Counting(way)
    found = written_words(text, counting)
    assert counting.calls <= calls
    assert counting.characters <= times * 4096
    assert sum(one.words for one in found) == len(words_of(way(text)))


def test_numbers_far_from_one_another_are_words_of_their_own() -> None:
    text = "We had $5 million for it — or not. " * 20
    found = [text[one.start : one.end] for one in written_words(text, spell)]
    assert found == ["We", "had", "$5 million", "for", "it", "or", "not."] * 20


def test_what_cannot_be_told_apart_is_one_word_between_those_that_can() -> None:
    def turned(text: str) -> str:
        """All words from the first to the last with an x, the wrong way round."""
        words = text.split()
        marked = [number for number, word in enumerate(words) if "x" in word]
        if marked:
            first, end = marked[0], marked[-1] + 1
            words[first:end] = reversed(words[first:end])
        return " ".join(words)

    middle = [f"x{number}" for number in range(30)]
    text = " ".join(["a", "b", *middle, "c", "d"])
    found = [text[one.start : one.end] for one in written_words(text, turned)]
    assert found == ["a", "b", " ".join(middle), "c", "d"]


def test_a_text_that_is_not_spelled_out_is_taken_as_it_is() -> None:
    assert [one.words for one in written_words("$5 million - or so", str)] == [1, 1, 1, 1]


# -- the words of parts ----------------------------------------------------------------------------------------------


def later(seconds: float) -> float:
    return seconds + 2.0


def pieces_of(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def heard(part: str) -> list[WordTimestamp]:
    """All words of a part, as a worker tells them."""
    return [WordTimestamp(match[0], 0.5, 0.75, *match.span()) for match in re.finditer(r"\S+", part)]


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6), min_size=1, max_size=6), st.integers(1, 9))
def test_the_words_of_parts_are_found_in_the_whole(parts: list[list[str]], size: int) -> None:
    text = "  ".join(piece for part in parts for piece in part)
    written, whole = Transcript(), Transcript(text)
    for piece in pieces_of(text, size):
        written.write(piece)
    given = [" ".join(" ".join(part).split()) for part in parts]
    given = [part for part in given if words_of(part)]  # the others are never spoken
    placed = [word for part in given for word in whole.begin(part).words(heard(part), later)]
    assert [text[word.text_start : word.text_end] for word in placed] == " ".join(given).split()
    assert all(early.text_end < late.text_start for early, late in pairwise(placed))
    assert all((word.start, word.end) == (2.5, 2.75) for word in placed)
    assert [word for part in given for word in written.begin(part).words(heard(part), later)] == placed


def test_words_that_are_not_told_do_not_shift_those_that_are() -> None:
    text = "She saw a cat.  No cat is here.\n😀 At last a bird, at last."
    transcript = Transcript(text)
    for part, told_of_it in (("She saw a cat.", 2), ("No cat is here.", 0), ("At last a bird, at last.", 6)):
        words = transcript.begin(part).words(heard(part)[:told_of_it], later)
        assert [text[word.text_start : word.text_end] for word in words] == part.split()[:told_of_it]
        assert not any(text[: word.text_start][-1:].strip() for word in words)  # none is within another
    part = "He sat at a table."
    (word,) = Transcript(part).begin(part).words([WordTimestamp("a", 0, 1, 10, 11)], later)  # of those that are an a
    assert (word.text_start, word.text_end) == (10, 11)


def test_a_part_begins_within_a_word_where_a_flush_has_cut_it() -> None:
    transcript = Transcript("Hel")
    assert transcript.begin("Hel").words([WordTimestamp("Hel", 0, 1, 0, 3)], later)[0].text_end == 3
    transcript.write("lo there")
    assert [word.text_start for word in transcript.begin("lo there").words(heard("lo there"), later)] == [3, 6]


def test_several_words_that_are_one_have_white_space_of_their_own() -> None:
    place = Transcript("It costs $5 \n million.").begin("It costs $5 million.")
    (word,) = place.words([WordTimestamp("$5 million.", 0, 1, 9, 20)], later)
    assert (word.word, word.text_start, word.text_end) == ("$5 million.", 9, 22)


def test_what_is_behind_is_let_go_and_still_counted() -> None:
    transcript = Transcript("abcdefgh " * 10_000)
    part = " ".join(["abcdefgh"] * 100)
    placed = [word for _ in range(100) for word in transcript.begin(part).words(heard(part), later)]
    assert [word.text_start for word in placed] == list(range(0, 90_000, 9))


def test_a_text_that_is_not_there_has_no_places() -> None:
    (word,) = Transcript().begin("hi").words(heard("hi"), later)
    assert (word.text_start, word.text_end, word.start) == (0, 0, 2.5)
