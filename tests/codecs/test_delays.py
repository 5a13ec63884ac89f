"""Codebooks that come late: the published patterns, ids to frames and back, and the order that drains them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.models.dia.processing_dia import DiaProcessor

from max_codecs.constraint import FrameBounds, SlotOrder
from max_codecs.delay_order import DelayOrder
from max_codecs.delays import Aligner, DelayFormat, delayed
from max_codecs.format import SpeechFormat
from max_codecs.frames import FrameAssembler
from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.prompt import PromptFormat, ReferenceFormat
from max_codecs.slots import depth_first

END, BASE, CODES = 4, 20, 5
PROMPT = PromptFormat((1,), (2,), (3,), reference=ReferenceFormat((), (), (), ()))
DIA = DelayFormat(steps=(0, 8, 9, 10, 11, 12, 13, 14, 15), before=1026, end=1024, after=1025)
MUSICGEN = DelayFormat(steps=(0, 1, 2, 3), before=2048, after=2048)


def layout(delays: DelayFormat | None, levels: int = 3, **fields: object) -> SpeechLayout:
    """Ids 20 to 43: slots of 8 ids, 5 of them codes."""
    given = {"ids_per_slot": 8, "slots": depth_first((1,) * levels), **fields}
    return SpeechLayout(BASE, CODES, (END,), PROMPT, delays=delays, **given)  # type: ignore[arg-type]


LATE = layout(DelayFormat(steps=(0, 2, 1), before=5, end=6, after=7))
layouts = st.sampled_from(
    [
        LATE,
        layout(DelayFormat(steps=(0, 1, 1), before=5, after=5)),  # Moshi's
        layout(DelayFormat(steps=(0, 1, 3), before=7, after=6), slot_offsets=(16, 0, 8)),
        layout(DelayFormat(steps=(1, 0), before=5, after=6), levels=2, slots=((1, 0), (0, 0), (1, 1))),
    ]
)


@st.composite
def layouts_and_frames(draw: st.DrawFn) -> tuple[SpeechLayout, NDArray[np.int64]]:
    rows = draw(st.lists(st.lists(st.integers(0, CODES - 1), min_size=3, max_size=3), max_size=8))
    return draw(layouts), np.array(rows, np.int64).reshape(-1, 3)


def written(form: SpeechLayout, frames: NDArray[np.int64]) -> list[int]:
    """The ids of a model that has no faults."""
    assert form.delays is not None
    steps = delayed(frames, form.slot_delays, form.delays)
    return [BASE + form.offsets[slot] + int(code) for step in steps for slot, code in enumerate(step)]


def test_dias_pattern_is_the_published_one() -> None:
    frames = np.arange(9 * 20).reshape(20, 9)
    ours = delayed(frames, DIA.steps, msgspec.structs.replace(DIA, end=None))
    padded = torch.nn.functional.pad(torch.from_numpy(frames), (0, 0, 0, 15), value=1025)[None]
    indices = DiaProcessor.build_indices(1, 35, 9, list(DIA.steps))
    theirs = DiaProcessor.apply_audio_delay(padded, 1025, 1026, indices)[0]
    np.testing.assert_array_equal(ours, theirs.numpy())
    ends = delayed(frames, DIA.steps, DIA) == 1024  # each codebook says its own end, the last one needs not
    assert [np.flatnonzero(column).tolist() for column in ends.T] == [[20 + delay] for delay in DIA.steps[:-1]] + [[]]


def test_musicgens_pattern_is_the_published_one() -> None:
    frames = np.arange(1, 9).reshape(2, 4)
    assert delayed(frames, MUSICGEN.steps, MUSICGEN).T.tolist() == [
        [1, 5, 2048, 2048, 2048],
        [2048, 2, 6, 2048, 2048],
        [2048, 2048, 3, 7, 2048],
        [2048, 2048, 2048, 4, 8],
    ]


@given(case=layouts_and_frames(), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_what_is_written_late_is_put_together(case: tuple[SpeechLayout, NDArray[np.int64]], cuts: list[int]) -> None:
    form, frames = case
    ids = written(form, frames)
    assembler = FrameAssembler(form)
    parts = [assembler.push(part.tolist()) for part in np.split(np.array(ids, np.int64), sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), frames)
    assert (assembler.frames, assembler.dropped_tokens, assembler.resyncs) == (len(frames), 0, 0)
    np.testing.assert_array_equal(form.frames(form.ids(frames)), frames)  # a buffer's ids have no delay


def test_a_frame_is_there_as_soon_as_its_last_code() -> None:
    assembler, frames = FrameAssembler(LATE), np.array([[0, 1, 2], [3, 4, 0]])
    counts = [len(assembler.push([token])) for token in written(LATE, frames)]
    assert np.flatnonzero(counts).tolist() == [8, 11]  # the last slot of steps 2 and 3


@given(case=layouts_and_frames(), lost=st.integers(0, 40))
def test_a_lost_id_costs_the_frames_of_its_step_and_no_other(
    case: tuple[SpeechLayout, NDArray[np.int64]], lost: int
) -> None:
    form, frames = case
    ids = written(form, frames)
    step = lost // 3
    assembler = FrameAssembler(form)
    got = assembler.push([token for at, token in enumerate(ids) if at != lost])
    whole = [frame for number, frame in enumerate(frames) if not number <= step <= number + max(form.slot_delays)]
    if lost < len(ids) - 3:
        np.testing.assert_array_equal(got, np.array(whole, np.int64).reshape(-1, 3))


def test_lost_codes_are_counted() -> None:
    """Step 3 of LATE's is broken off: of the frames 1, 2, 3 all that was written is lost."""
    frames = np.zeros((6, 3), np.int64)
    ids = written(LATE, frames)
    assembler = FrameAssembler(LATE)
    assert len(assembler.push([*ids[:10], *ids[12:]])) == 6 - 3
    # Frame 1: its slots 0 and 2, in steps 1 and 2; frame 2: slot 0, in step 2; frame 3: slot 0, in step 3.
    assert assembler.dropped_tokens == 2 + 1 + 1
    assert assembler.resyncs == 1


def test_a_frame_with_a_filler_in_it_is_none() -> None:
    aligner = Aligner((0, 1), CODES)
    assert aligner.push([1, 5]) is None
    assert aligner.push([2, 3]) == [1, 3]
    assert aligner.push([3, 6]) is None
    assert aligner.push([4, 4]) == [3, 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delays": DelayFormat((0, 1), 5, 6)}, "wants one for each of the levels"),
        ({"delays": DelayFormat((1, 0, 2), 5, 6)}, "the first slot's level must have no delay"),
        ({"delays": DelayFormat((0, 1, 2), 4, 6)}, "must be from 5, the codebook_size, to 7"),
        ({"delays": DelayFormat((0, 1, 2), 5, 8)}, "must be from 5, the codebook_size, to 7"),
        ({"delays": DelayFormat((0, 1, 2), 5, 6, 4)}, "must be from 5, the codebook_size, to 7"),
        ({"ids_per_slot": 4}, "ids_per_slot=4: must hold the codebook_size=5"),
        ({"slot_offsets": (0, 5, 10)}, "different multiples of 8"),
        ({"phones": PhoneFormat(((6, 8),), 5)}, "writes no codebook late"),
    ],
)
def test_what_does_not_fit_is_said(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(LATE, **fields)


def test_no_delay_at_all_is_said() -> None:
    with pytest.raises(ValueError, match="no level comes late"):
        DelayFormat((0, 0), 5, 6)


def test_it_is_read_from_yaml() -> None:
    text = msgspec.yaml.encode(msgspec.to_builtins(LATE))
    assert msgspec.yaml.decode(text, type=SpeechLayout) == LATE


def test_a_reference_voice_is_written_as_the_model_writes() -> None:
    frames = np.array([[0, 1, 2], [3, 4, 0]])
    assert LATE.reference((9,), LATE.ids(frames)).audio_ids == tuple(written(LATE, frames))


# -- the order -------------------------------------------------------------------------------------------------------


def allowed(order: DelayOrder, tokens: Sequence[int]) -> list[int]:
    mask = order.allowed(tokens)
    assert mask is order.allowed(list(tokens))
    assert not mask.flags.writeable
    assert mask.any()
    return np.flatnonzero(mask).tolist()


@given(form=layouts, frames=st.integers(1, 6), bounds=st.integers(1, 6), data=st.data())
def test_whatever_is_allowed_ends_with_every_frame_complete(
    form: SpeechLayout, frames: int, bounds: int, data: st.DataObject
) -> None:
    limits = FrameBounds(min_frames=min(frames, bounds), max_frames=max(frames, bounds))
    order, tokens = DelayOrder(form, 64, limits), list[int]()
    while not tokens or tokens[-1] != END:
        tokens.append(data.draw(st.sampled_from(allowed(order, tokens))))
    assert allowed(order, tokens) == [END]
    assembler = FrameAssembler(form)
    got = assembler.push(tokens)
    assert limits.min_frames <= len(got) <= max(frames, bounds)
    assert written(form, got) == tokens[:-1]
    assert assembler.dropped_tokens == 0


def test_the_first_slot_chooses_and_the_others_follow() -> None:
    order = DelayOrder(LATE, 64, FrameBounds(min_frames=1, max_frames=2))
    tokens = written(LATE, np.array([[0, 1, 2], [3, 4, 0]]))
    choices = [allowed(order, tokens[:count]) for count in range(len(tokens) + 1)]
    codes = [list(range(BASE + 8 * slot, BASE + 8 * slot + CODES)) for slot in range(3)]
    before, end, after = ([BASE + 8 * slot + code for slot in range(3)] for code in (5, 6, 7))
    assert choices == [
        codes[0], [before[1]], [before[2]],
        [*codes[0], end[0]], [before[1]], codes[2],
        [end[0]], codes[1], codes[2],
        [after[0]], codes[1], [end[2]],
        [END],
    ]  # fmt: skip


@given(form=layouts, period=st.integers(1, 8), rounds=st.integers(2, 4), least=st.integers(0, 40))
def test_a_sound_that_repeats_itself_is_ended(form: SpeechLayout, period: int, rounds: int, least: int) -> None:
    last, longest = period * rounds, max(form.slot_delays)
    order = DelayOrder(form, 64, FrameBounds(min_frames=least, max_repeated=last))
    loop = np.repeat([[1], *[[k % 2] for k in range(1, period)]], 3, 1)
    tokens = written(form, np.concatenate([[[4] * 3, [3] * 3], np.tile(loop, (rounds + longest, 1))]))
    looped = 2 + longest + last  # the first step before which all codebooks have been in the loop for so long
    for step in range(looped + 1):
        more = BASE + form.offsets[0] in allowed(order, tokens[: step * form.codes_per_frame])
        assert more == (step < max(looped, least))


def test_a_layout_chooses_its_order() -> None:
    assert isinstance(SpeechFormat(LATE).constraint(64), DelayOrder)
    assert isinstance(SpeechFormat(layout(None)).constraint(64), SlotOrder)
    with pytest.raises(ValueError, match=r"layout\.delays is not set"):
        DelayOrder(layout(None), 64)
    with pytest.raises(ValueError, match="vocab_size=43"):
        DelayOrder(LATE, 43)
