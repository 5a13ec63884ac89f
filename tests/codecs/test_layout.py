"""The token layout: ids to frames and back, and what happens when ids go astray."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.frames import FrameAssembler
from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.orpheus import ORPHEUS
from max_codecs.prompt import PromptFormat
from max_codecs.slots import depth_first, level_counts

PROMPT = PromptFormat(before_text=(1,), after_text=(2,), speech=(3,))
SMALL = SpeechLayout(audio_base=20, codebook_size=5, end_ids=(4,), prompt=PROMPT)
PERMUTED = SpeechLayout(  # two levels, the second slot's ids before the first's, and a gap
    audio_base=20, codebook_size=5, end_ids=(4,), prompt=PROMPT, slots=((0, 0), (1, 0)), slot_offsets=(15, 0)
)
WITH_PHONES = SpeechLayout(
    audio_base=20,
    codebook_size=5,
    end_ids=(4,),
    prompt=PROMPT,
    phones=PhoneFormat(phones=((6, 8), (12, 12)), start_of_frames=5, next_clause=9),
)

layouts = st.sampled_from([SMALL, PERMUTED, WITH_PHONES])


@st.composite
def layouts_and_frames(draw: st.DrawFn) -> tuple[SpeechLayout, NDArray[np.int64]]:
    layout = draw(layouts)
    rows = draw(st.lists(st.lists(st.integers(0, 4), min_size=7, max_size=7), max_size=6))
    return layout, np.array(rows, np.int64).reshape(-1, 7)[:, : layout.codes_per_frame]


@given(layouts_and_frames())
def test_frames_to_ids_and_back(case: tuple[SpeechLayout, NDArray[np.int64]]) -> None:
    layout, frames = case
    ids = layout.ids(frames)
    assert [layout.slot_of(token) for token in ids] == list(range(layout.codes_per_frame)) * len(frames)
    np.testing.assert_array_equal(layout.frames(ids), frames)
    np.testing.assert_array_equal(layout.from_levels(layout.levels(frames)), frames)
    assembler = FrameAssembler(layout)
    np.testing.assert_array_equal(assembler.push(ids.tolist()), frames)
    assert (assembler.dropped_tokens, assembler.resyncs, assembler.pending_tokens) == (0, 0, 0)
    assert assembler.frames == len(frames)


def test_orpheus_ids_follow_the_published_rule() -> None:
    codes = np.array([[0, 1, 2, 3, 4, 5, 4095]])
    expected = [128266 + 4096 * slot + code for slot, code in enumerate(codes[0])]
    assert ORPHEUS.ids(codes).tolist() == expected
    assert expected[-1] == 156937 == ORPHEUS.audio_stop - 1
    coarse, middle, fine = ORPHEUS.levels(codes)
    assert (coarse.tolist(), middle.tolist(), fine.tolist()) == ([0], [1, 4], [2, 3, 5, 4095])


def test_slots_interleave_depth_first() -> None:
    assert depth_first((4, 2, 1)) == ((0, 0), (1, 0), (2, 0), (2, 1), (1, 1), (2, 2), (2, 3))
    assert depth_first((2, 2)) == ((0, 0), (1, 0))
    assert level_counts(depth_first((8, 4, 2, 1))) == (1, 2, 4, 8)


@given(st.lists(st.integers(0, 60), max_size=80), st.lists(st.integers(0, 80), max_size=5), layouts)
def test_assembler_is_a_function_of_the_ids(ids: list[int], cuts: list[int], layout: SpeechLayout) -> None:
    """Any split gives the same frames and counters, and every id is accounted for."""
    whole, parts = FrameAssembler(layout), FrameAssembler(layout)
    frames = whole.push(ids)
    borders = [0, *sorted(cuts), len(ids)]
    pieces = [parts.push(ids[start:stop]) for start, stop in pairwise(borders)]
    np.testing.assert_array_equal(np.concatenate(pieces), frames)
    counters = (whole.frames, whole.dropped_tokens, whole.resyncs, whole.other_tokens, whole.pending_tokens)
    assert counters == (parts.frames, parts.dropped_tokens, parts.resyncs, parts.other_tokens, parts.pending_tokens)
    used = whole.frames * layout.codes_per_frame
    assert used + whole.dropped_tokens + whole.other_tokens + whole.pending_tokens == len(ids)
    assert whole.resyncs <= whole.dropped_tokens


@given(st.integers(0, 4 * 7 - 1), st.booleans())
def test_one_stray_or_missing_id_costs_one_frame_at_most(at: int, missing: bool) -> None:
    frames = np.arange(28).reshape(4, 7) % 5
    ids = SMALL.ids(frames).tolist()
    if missing:
        del ids[at]
    else:
        ids.insert(at, ids[at] + 2 * SMALL.codebook_size if at % 7 < 5 else ids[at] - 2 * SMALL.codebook_size)
    assembler = FrameAssembler(SMALL)
    got = assembler.push(ids)
    whole = [frame for k, frame in enumerate(frames.tolist()) if k != at // 7]
    assert [frame for frame in got.tolist() if frame in whole] == whole
    assert len(got) >= 3
    assert assembler.resyncs <= 1


def test_code_zero_in_every_slot_is_legal() -> None:
    assembler = FrameAssembler(ORPHEUS)
    frames = np.zeros((2, 7), np.int64)
    np.testing.assert_array_equal(assembler.push(ORPHEUS.ids(frames).tolist()), frames)
    assert assembler.dropped_tokens == 0


def test_resync_counts_one_break_and_every_lost_id() -> None:
    ids = SMALL.ids(np.zeros((3, 7), np.int64)).tolist()
    assembler = FrameAssembler(SMALL)
    assert len(assembler.push(ids[:3] + ids[4:7])) == 0
    assert (assembler.dropped_tokens, assembler.resyncs) == (6, 1)
    assert len(assembler.push(ids[7:14])) == 1
    assert (assembler.dropped_tokens, assembler.resyncs) == (6, 1)
    assert len(assembler.push([*ids[14:16], *ids[:7]])) == 1
    assert (assembler.dropped_tokens, assembler.resyncs) == (8, 2)


def test_other_ids_pass_inside_a_frame() -> None:
    ids = SMALL.ids(np.zeros((1, 7), np.int64)).tolist()
    assembler = FrameAssembler(SMALL)
    assert len(assembler.push([1, *ids[:3], 2, 99, *ids[3:]])) == 1
    assert (assembler.other_tokens, assembler.dropped_tokens) == (3, 0)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros(7), "must be integers"),
        (np.zeros((1, 7), np.int64), "one dimension"),
        (np.arange(6), "whole frames of 7"),
        (np.full(7, 20), "speech token 1 is 20: no code of slot 1"),
        (np.full(7, 2**40), "speech token 0"),
    ],
)
def test_strict_reading_refuses(ids: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL.frames(ids)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 6), np.int64), r"must be \[n, 7\]"),
        (np.full((1, 7), 5), "must be 0 to 4"),
        (np.full((1, 7), -1), "must be 0 to 4"),
    ],
)
def test_writing_refuses_what_is_no_frame(frames: NDArray[np.int64], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SMALL.ids(frames)


def test_levels_in_the_wrong_proportion_are_refused() -> None:
    with pytest.raises(ValueError, match="in proportion"):
        SMALL.from_levels([np.zeros(1, np.int64), np.zeros(2, np.int64), np.zeros(3, np.int64)])


def test_yaml_round_trip() -> None:
    for layout in (ORPHEUS, PERMUTED, WITH_PHONES):
        assert msgspec.yaml.decode(msgspec.yaml.encode(layout), type=SpeechLayout) == layout
        assert isinstance(hash(layout), int)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("audio_bse: 3", "unknown field `audio_bse`"),
        ("audio_base: -1", "`int` >= 0"),
        ("codebook_size: 0", "`int` >= 1"),
        ("end_ids: []", "length >= 1"),
        ("end_ids: [21]", "the id 21 is an audio id"),
        ("end_ids: [4, 4]", "must differ"),
        ("slots: [[0, 0], [0, 0]]", "a slot stands twice"),
        ("slots: [[0, 0], [2, 0]]", "levels must count from 0"),
        ("slots: [[0, 1]]", "indices of level 0"),
        ("slot_offsets: [5]", "one for each of 7 slots"),
        ("slot_offsets: [0, 1, 5, 10, 15, 20, 25]", "different multiples of 5"),
        ("phones: {phones: [[6, 5]], start_of_frames: 9}", r"range \[6, 5\] is empty"),
        ("phones: {phones: [[6, 9]], start_of_frames: 9}", "be no phones"),
        ("phones: {phones: [[6, 8], [15, 99]], start_of_frames: 9}", r"phones \[15, 99\] reach into the audio ids"),
        ("phones: {phones: [[6, 7]], start_of_frames: 9, next_clause: 4}", "must differ"),
    ],
)
def test_a_bad_layout_is_refused(yaml: str, message: str) -> None:
    fields = msgspec.yaml.decode(msgspec.yaml.encode(SMALL)) | msgspec.yaml.decode(yaml)
    with pytest.raises(ValueError, match=message):
        msgspec.convert(fields, SpeechLayout)


def test_layout_and_constraint_need_no_torch() -> None:
    code = "import max_codecs.layout, max_codecs.constraint, max_codecs.frames, max_codecs.orpheus, sys;"
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)
