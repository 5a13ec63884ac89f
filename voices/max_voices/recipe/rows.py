"""Utterances as rows of token ids, with what each position is to learn and where it may look."""

import random
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from max_voices.recipe.data import Record, load_shard
from max_voices.recipe.flite import PAUSE, SAMPLE_RATE, Teacher
from max_voices.recipe.layout import (
    EOS,
    FRAME,
    PAD,
    SAMPLE_FRAMES,
    SLOTS,
    SOC,
    SOS,
    TOKENS,
    WORD,
    Clause,
    Ids,
    clauses,
    interleave,
    prompt,
    sample,
)

_SECONDS = FRAME / SAMPLE_RATE
# Which part of its frame a slot's code stands for: the whole, a half, a quarter.
_SPANS = ((0.0, 1.0), (0.0, 0.5), (0.0, 0.25), (0.25, 0.5), (0.5, 1.0), (0.5, 0.75), (0.75, 1.0))
IGNORE = -1
_SAMPLED = 0.15  # share of the rows that begin with a sample of the voice


@dataclass(frozen=True, slots=True)
class Row:
    """One utterance. ``target[p]`` is the id to predict after position p, or IGNORE; ``low[p]``…``high[p]`` are
    the earlier positions that say what it will be (−1: nothing to show)."""

    ids: npt.NDArray[np.int16]
    positions: npt.NDArray[np.int16]
    target: npt.NDArray[np.int16]
    low: npt.NDArray[np.int16]
    high: npt.NDArray[np.int16]


class _Builder:
    """Collects ids with, for each, whether it is learnt and where it comes from."""

    def __init__(self, text: str, speaker: str | None, before: Sequence[int] = ()) -> None:
        self.ids = [*before, *prompt(text, speaker)]
        self.learn = [False] * len(self.ids)
        self.span = [(-1, -1)] * len(self.ids)
        self.position = list(range(len(self.ids)))
        start = len(before) + 2
        self.words = [(match.start() + start, match.end() + start) for match in re.finditer(r"\S+", text)]
        self.word = 0

    def add(self, token: int, span: tuple[int, int] = (-1, -1), learn: bool = True, gap: int = 0) -> None:
        self.ids.append(token)
        self.learn.append(learn)
        self.span.append(span)
        self.position.append(self.position[-1] + 1 + gap)

    def phones(self, clause: Clause) -> list[int]:
        """Writes a clause's phones; returns where they stand."""
        places = list[int]()
        for phone in clause.phones:
            self.add(TOKENS["@" + phone], self.words[self.word])
            places.append(len(self.ids) - 1)
            if phone == WORD:
                self.word += 1
        self.word += 1
        return places

    def row(self) -> Row:
        ids, spans = np.array(self.ids, np.int16), np.array(self.span, np.int16)
        target = np.where(self.learn, ids, IGNORE)
        shift = [np.append(array[1:], np.int16(-1)) for array in (target, spans[:, 0], spans[:, 1])]
        return Row(ids, np.array(self.position, np.int16), shift[0], shift[1], shift[2])


def speech_row(
    record: Record, codes: Sequence[npt.NDArray[np.integer]], speaker: str | None, before: Sequence[int] = ()
) -> Row:
    """Text, then phones and frames by clause. ``codes`` are those of this utterance; ``before``, a sample's ids."""
    build, audio = _Builder(record.text, speaker, before), interleave(codes).reshape(-1, SLOTS)
    places, ends = list[int](), list[float]()
    frame = 0
    for number, (clause, count) in enumerate(zip(record.clauses, record.counts, strict=True)):
        places += build.phones(clause)
        ends += clause.ends
        build.add(SOS)
        for _ in range(count):
            for token, (early, late) in zip(audio[frame], _SPANS, strict=True):
                first = bisect_right(ends, (frame + early) * _SECONDS)
                last = bisect_left(ends, (frame + late) * _SECONDS)
                span = places[min(first, len(places) - 1)], places[min(last, len(places) - 1)]
                build.add(int(token), span)
            frame += 1
        build.add(EOS if number + 1 == len(record.clauses) else SOC, (places[-1], places[-1]))
    return build.row()


def phone_row(text: str, spoken: Sequence[Clause], speaker: str) -> Row:
    """Text and phones only. Positions jump over the frames that are missing, so distances are as in speech."""
    build = _Builder(text, speaker)
    for clause in spoken:
        build.phones(clause)
        build.add(SOS)
        build.add(SOC, learn=False, gap=int(len(clause.phones) * 0.56) * SLOTS)
    return build.row()


def speech_rows(path: Path, seed: int) -> Iterator[Row]:
    """All utterances of the shard whose codes are at ``path``; some are told whose voice it is by a sample alone."""
    records, _ = load_shard(path.parents[1] / "audio" / f"{path.stem}.npy")
    speaker, chance = path.stem.rsplit("_", 1)[0], random.Random(f"{seed} {path.stem}")
    with np.load(path, allow_pickle=False) as file:
        levels = [file[f"level{number}"] for number in range(3)]

    def codes(record: Record) -> list[npt.NDArray[np.integer]]:
        first, last = record.first, record.first + record.frames
        return [level[first << n : last << n] for n, level in enumerate(levels)]

    short = [record for record in records if record.frames in SAMPLE_FRAMES]
    for record in records:
        other = chance.choice(short) if short and chance.random() < _SAMPLED else record
        if other is record:
            yield speech_row(record, codes(record), speaker)
        else:
            yield speech_row(record, codes(record), None, sample(other.text, interleave(codes(other)).tolist()))


def phone_rows(texts: Iterable[str], speakers: Sequence[str]) -> Iterator[Row]:
    teachers = {speaker: Teacher(speaker) for speaker in speakers}
    for text, speaker in zip(texts, cycle(speakers)):
        phones = teachers[speaker].phones(text)
        if max(phone.word for phone in phones) + 1 == len(text.split()):
            yield phone_row(text, [c for c in clauses(text, phones) if PAUSE not in c.phones[:1]], speaker)


# Rows of a batch share one of few lengths, so that little is padding; about 4,096 tokens a step.
SHAPES = ((128, 32), (192, 21), (256, 16), (352, 12), (480, 9), (672, 6), (1024, 4), (1536, 3))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows padded to one length: all (B, T) int64."""

    ids: Tensor
    positions: Tensor
    target: Tensor
    low: Tensor
    high: Tensor


def _stacked(rows: Sequence[Row], length: int) -> Batch:
    def padded(arrays: Iterable[Ids | npt.NDArray[np.int16]], fill: int) -> Tensor:
        return torch.from_numpy(
            np.stack([np.pad(a, (0, length - len(a)), constant_values=fill) for a in arrays]).astype(np.int64)
        )

    return Batch(
        padded((row.ids for row in rows), PAD),
        padded((row.positions for row in rows), 0),
        padded((row.target for row in rows), IGNORE),
        padded((row.low for row in rows), -1),
        padded((row.high for row in rows), -1),
    )


def batches(rows: Iterable[Row]) -> Iterator[Batch]:
    """A fold over the stream: a row waits for others of its length to fill a batch. Too long ones are left out."""
    waiting: dict[int, list[Row]] = {length: [] for length, _ in SHAPES}
    for row in rows:
        for length, count in SHAPES:
            if len(row.ids) <= length:
                waiting[length].append(row)
                if len(waiting[length]) == count:
                    yield _stacked(waiting[length], length)
                    waiting[length] = []
                break
