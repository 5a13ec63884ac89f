"""Speaking a text while it is still being written."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from max_interfaces import (
    AudioGenerationOutput,
    AudioGenerationRequest,
    GenerationStatus,
    InvalidRequest,
    RequestID,
    SamplingParams,
)
from max_pipelines.client import AsyncClient, Flush
from max_pipelines.client.feed import AHEAD, Feed
from max_pipelines.config import Config, ModelConfig, PipelineConfig, WorkersConfig
from max_pipelines.speech.arriving import FIRST_WORDS, MAX_HELD, ArrivingText
from max_pipelines.speech.splitting import CLAUSE_END, SENTENCE_END, Part, is_abbreviation, split_text
from max_pipelines.speech.tail import Tail
from tests.tiny_voice import make_tiny_voice

PATIENCE_S = 60.0
WORDS = st.sampled_from(["one", "two", "Mr.", "three,", "four.", "five!", "six;", "e.g.", "seven?", "\n\n", "3.14"])


def spoken_words(arriving: ArrivingText, pieces: Sequence[str]) -> list[str]:
    parts = [part for piece in pieces for part in arriving.push(piece)] + arriving.flush()
    return [word for part in parts for word in part.text.split()]


@given(st.lists(WORDS, max_size=40), st.lists(st.integers(1, 9), max_size=60), st.sampled_from([0, 3, 8]))
def test_every_word_is_spoken_once_and_in_order(words: list[str], sizes: list[int], max_words: int) -> None:
    text = " ".join(words)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    assert spoken_words(ArrivingText(max_words), [*pieces, text[at:]]) == text.split()


@given(st.lists(WORDS, max_size=40), st.sampled_from([3, 8]))
def test_no_part_is_longer_than_the_voice_takes(words: list[str], max_words: int) -> None:
    arriving = ArrivingText(max_words)
    parts = [part for word in words for part in arriving.push(word + " ")] + arriving.flush()
    assert all(len(part.text.split()) <= max_words for part in parts)


def said(arriving: ArrivingText, text: str) -> list[str]:
    return [part.text for part in arriving.push(text)]


def test_the_first_clause_is_enough_to_begin_with() -> None:
    arriving = ArrivingText(0)
    assert not said(arriving, "Well, when the rain")
    assert said(arriving, " stopped,") == ["Well, when the rain stopped,"]
    assert not said(arriving, " we went out, and")
    assert said(arriving, " home. It") == ["we went out, and home."]


def test_a_sentence_waits_for_what_shows_that_it_has_ended() -> None:
    arriving = ArrivingText(0)
    assert not said(arriving, "I met Mr. ")
    assert not said(arriving, "Smith at 3.")
    assert not said(arriving, "15")
    assert said(arriving, ". He") == ["I met Mr. Smith at 3.15."]


@pytest.mark.parametrize("written", ["It costs about 3,", "It costs about three:", "go to example.", "on 3 May —"])
def test_what_may_be_within_a_word_or_a_number_ends_no_clause_yet(written: str) -> None:
    assert not said(ArrivingText(0), written)


@pytest.mark.parametrize(
    ("written", "joined", "followed"),
    [
        ("When it rained, we", True, True),
        ("When it rained,", True, False),  # maybe nothing more comes: all of its sound is wanted now
        ("When it rained, …", True, False),
        ("one two three four fi", True, True),  # more than a part takes
        ("Did it not rain?", False, False),
        ("All about the rain\nIt was", False, False),  # a heading
        ("It did not rain. We", False, False),
    ],
)
def test_the_sound_goes_on_within_a_sentence_and_pauses_between_two(written: str, joined: bool, followed: bool) -> None:
    (part,) = ArrivingText(3 if "four" in written else 0).push(written)
    assert (part.joined, part.followed) == (joined, followed)


def test_what_is_more_than_a_part_takes_leaves_no_word_alone() -> None:
    arriving = ArrivingText(3)
    assert said(arriving, "a b c d e") == ["a b c"]
    assert said(arriving, " f g h") == ["d e f"]
    assert [part.text for part in arriving.flush()] == ["g h"]


def test_a_flush_gives_what_is_there_and_begins_anew() -> None:
    arriving = ArrivingText(0)
    assert not said(arriving, "Hold on")
    assert [part.text for part in arriving.flush()] == ["Hold on"]
    assert not arriving.flush()
    assert said(arriving, "one two three, four") == ["one two three,"]


@pytest.mark.parametrize("pieces", [["No. ", "1 is here. It"], ["The No.", " ", "1", " is here. It"]])
def test_what_comes_behind_an_abbreviation_is_waited_for(pieces: list[str]) -> None:
    arriving = ArrivingText(0)
    parts = [part.text for piece in pieces for part in arriving.push(piece)]
    assert parts == ["The No. 1 is here." if pieces[0].startswith("The") else "No. 1 is here."]


class ObviousText:
    """The same as `ArrivingText`, all of what is held being read with each piece."""

    def __init__(self, max_words: int) -> None:
        self.max_words = max_words
        self.held = ""
        self.silent = True

    def push(self, text: str) -> list[Part]:
        self.held += text
        end = before = 0
        for match in SENTENCE_END.finditer(self.held):
            piece = self.held[before : match.end()]
            if piece.strip() and not is_abbreviation(piece, self.held[match.end() : match.end() + 1]):
                end = before = match.end()
        if end:
            return self.give(end)
        so_far = re.finditer(r"""(?<=[^\W\d_])[,;!?]+["'”’)\]]*\Z""", self.held)
        for border in (*CLAUSE_END.finditer(self.held), *so_far) if self.silent else ():
            if len(self.held[: border.end()].split()) >= FIRST_WORDS:
                return self.give(border.end(), goes_on=not re.search(r"[!?\n]", border[0]))
        return self.give(self.overflow() if self.max_words else 0, goes_on=True)

    def flush(self) -> list[Part]:
        parts = self.give(len(self.held))
        self.silent = True
        return parts

    def give(self, end: int, *, goes_on: bool = False) -> list[Part]:
        ready, self.held = self.held[:end], self.held[end:]
        parts = split_text(ready, self.max_words)
        self.silent = self.silent and not parts
        if goes_on and parts:
            parts[-1] = replace(parts[-1], joined=True, followed=any(map(str.isalnum, self.held)))
        return parts

    def overflow(self) -> int:
        end = self.held.rstrip().rfind(" ") + 1
        parts = split_text(self.held[:end], self.max_words)
        if len(parts) < 2:
            return 0
        words = [match.start() for match in re.finditer(r"\S+", self.held[:end])]
        return words[-len(parts[-1].text.split())]


ODD = st.sampled_from(
    [
        "one",
        "Mr.",
        "A.",
        "I.",
        "No.",
        "U.S.",
        "(etc.",
        "5,",
        "a,,",
        "b,'",
        "three:",
        "—",
        "!",
        "…",
        ".",
        "'",
        "four.",
        "six;",
        "\n",
        "\n ",
        " ",
        "\t",
    ]
)


@given(
    st.lists(st.tuples(ODD, st.sampled_from([" ", "", "\n", "  "])).map("".join), max_size=30).map("".join),
    st.lists(st.integers(0, 9), max_size=99),
    st.sampled_from([0, 1, 3, 8]),
    st.sets(st.integers(0, 20), max_size=2),
)
def test_what_is_read_of_a_text_is_enough(text: str, sizes: list[int], max_words: int, flushes: set[int]) -> None:
    arriving, obvious, at = ArrivingText(max_words), ObviousText(max_words), 0
    for number, size in enumerate([*sizes, len(text)]):
        piece, at = text[at : at + size], at + size
        assert arriving.push(piece) == obvious.push(piece)
        if number in flushes:
            assert arriving.flush() == obvious.flush()
    assert arriving.flush() == obvious.flush()


def test_a_text_without_a_border_is_refused_when_it_is_too_long_to_hold() -> None:
    arriving = ArrivingText(0)
    assert not said(arriving, "a" * MAX_HELD)
    with pytest.raises(InvalidRequest, match=f"more than {MAX_HELD} characters without the end of a sentence"):
        arriving.push("a")
    assert said(arriving, "It is late. We") == ["It is late."]


@pytest.mark.parametrize("letters", ["a", "- ", ". ", " ", ",", "5,", "."])
def test_each_piece_costs_what_its_own_characters_cost(letters: str) -> None:
    """However much is held: what is looked at for borders, and what is counted, grows as the text does."""

    def work(pieces: int) -> int:
        characters = 0

        def count(part: str) -> int:
            nonlocal characters
            characters += len(part)
            return sum(map(str.isalpha, part)) // 100

        arriving, tail = ArrivingText(30, count), Tail()
        for letter in "Mr. Smith came at 5" + letters * pieces:
            arriving.push(letter)
            characters += len(tail.push(letter))
        return characters

    assert work(4000) <= 2.5 * work(2000) + 100


async def counting(last: int, taken: list[int]) -> AsyncIterator[int]:
    for number in range(last):
        taken.append(number)
        yield number


async def test_a_feed_is_a_few_items_ahead_and_no_more() -> None:
    taken: list[int] = []
    async with Feed(counting(20, taken)) as feed:
        assert await feed.next() == 0
        async with asyncio.timeout(PATIENCE_S):
            while len(taken) < AHEAD:
                await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(taken) <= AHEAD + 2
        assert not feed.ended
        assert [await feed.next() for _ in range(19)] == list(range(1, 20))
        assert await feed.next() is None
        assert feed.ended


async def test_what_an_iterator_raises_comes_behind_its_items() -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise KeyError("lost")

    async with Feed(failing()) as feed:
        assert await feed.next() == 1
        assert feed.waiting() is None
        assert not feed.ended
        with pytest.raises(KeyError, match="lost"):
            await feed.next()


async def test_an_iterator_that_awaits_what_somebody_else_has_cancelled_keeps_nobody_waiting() -> None:
    async def typing() -> AsyncIterator[int]:
        yield 1
        others = asyncio.ensure_future(asyncio.Event().wait())
        asyncio.get_running_loop().call_soon(others.cancel)
        await others

    async with Feed(typing()) as feed:
        assert await feed.next() == 1
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(PATIENCE_S):  # which makes another error of its own cancellation
                await feed.next()


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    config = Config(
        model=ModelConfig(name="voice"),
        pipeline=PipelineConfig(kind="trivial", options={"chunks": 2, "samples": 2400}),
        workers=WorkersConfig(transport="thread"),
    )
    async with AsyncClient.embedded(config) as opened:
        yield opened


async def all_of(outputs: AsyncIterator[AudioGenerationOutput]) -> list[AudioGenerationOutput]:
    found = [output async for output in outputs]
    assert [output.metadata.chunk_id for output in found] == list(range(len(found)))
    assert [output.is_done for output in found] == [False] * (len(found) - 1) + [True]
    return found


async def test_sound_begins_before_the_text_has_ended(client: AsyncClient) -> None:
    heard = asyncio.Event()

    async def writing() -> AsyncIterator[str]:
        for word in ("The", "first", "of", "some", "clauses,", ""):
            yield word + " "
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()
        yield "and then the rest. And more."

    outputs = client.stream_text(writing())
    first = await anext(outputs)
    assert not first.is_done
    heard.set()
    rest = [output async for output in outputs]
    assert rest[-1].is_done
    assert sum(output.steps_executed for output in [first, *rest]) == 3 * 2


async def test_what_is_flushed_is_heard(client: AsyncClient) -> None:
    heard = asyncio.Event()

    async def writing() -> AsyncIterator[str | Flush]:
        yield "Not a whole"
        yield Flush()
        async with asyncio.timeout(PATIENCE_S):
            await heard.wait()

    outputs = client.stream_text(writing())
    await anext(outputs)
    heard.set()
    assert [output async for output in outputs][-1].final_status is GenerationStatus.END_OF_SEQUENCE


async def test_whether_it_comes_at_once_or_in_pieces_it_is_the_same_sound(client: AsyncClient) -> None:
    text = "It is late. We go home now. Good night."

    async def letters() -> AsyncIterator[str]:
        for letter in text:
            yield letter

    pieces = await all_of(client.stream_text(letters()))
    whole = await all_of(client.speak(text))
    assert sum(output.audio_data.size for output in pieces) == sum(output.audio_data.size for output in whole)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "symmetric"])
async def test_clauses_are_one_flow_of_speech(causal: bool, tmp_path: Path) -> None:
    """As the same requests one behind the other, each with the last one's tokens: nothing between, nothing faded."""
    parts = ("One two three four,", "five six and seven.")

    async def writing() -> AsyncIterator[str]:
        yield " ".join(parts)

    async with AsyncClient.embedded(make_tiny_voice(tmp_path, causal=causal)) as voice:
        params = SamplingParams(seed=3)
        spoken = await all_of(voice.stream_text(writing(), sampling_params=params))
        request = AudioGenerationRequest(RequestID(), "tiny", parts[0], sampling_params=params, to_be_continued=True)
        begun = await voice.generate(request)
        request = AudioGenerationRequest(
            RequestID(),
            "tiny",
            parts[1],
            sampling_params=params,
            buffer_speech_tokens=begun.buffer_speech_tokens,
            buffer_position=begun.buffer_position,
        )
        ended = await voice.generate(request)
    sound = np.concatenate([output.audio_data for output in spoken])
    np.testing.assert_allclose(sound, np.concatenate([begun.audio_data, ended.audio_data]), rtol=0, atol=1e-5)


async def test_nothing_written_is_an_empty_sound(client: AsyncClient) -> None:
    async def nothing() -> AsyncIterator[str]:
        yield " … "

    (output,) = await all_of(client.stream_text(nothing()))
    assert not output.audio_data.size


async def test_who_stops_listening_stops_the_writing(client: AsyncClient) -> None:
    left = asyncio.Event()

    async def for_ever() -> AsyncIterator[str]:
        try:
            while True:
                yield "On and on it goes. "
                await asyncio.sleep(0.001)
        finally:
            left.set()

    outputs = client.stream_text(for_ever())
    await anext(outputs)
    await outputs.aclose()
    async with asyncio.timeout(PATIENCE_S):
        await left.wait()
        while (await client.report()).gauges["requests"]:
            await asyncio.sleep(0.01)


async def test_an_error_while_writing_is_the_listeners(client: AsyncClient) -> None:
    async def failing() -> AsyncIterator[str]:
        yield "It is late. We "
        raise KeyError("pen")

    with pytest.raises(KeyError, match="pen"):
        await all_of(client.stream_text(failing()))


async def test_a_voice_that_there_is_not_is_said_at_once(client: AsyncClient) -> None:
    async def nothing() -> AsyncIterator[str]:
        yield ""

    with pytest.raises(ValueError, match="no such voice"):
        client.stream_text(nothing(), voice="nobody")
