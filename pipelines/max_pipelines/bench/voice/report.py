"""What was measured of each voice, and the table of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

UNKNOWN = "–"


class VoiceFigures(msgspec.Struct, frozen=True):
    """One voice. None stands where there is no teacher to compare with, `without` says why.

    `wer` has a word error rate for each seed. `own` is the share of utterances that are more like this voice's profile
    than any other's; None for a single voice. Decibels, Hz, semitones, milliseconds and LUFS, as the names say.
    """

    voice: str
    utterances: int
    wer: tuple[float, ...]
    runaway: int
    empty: int
    pitch_hz: float
    pitch_spread_semitones: float
    lead_ms: float
    lead_worst_ms: float
    loudness_lufs: float
    loudness_spread_lu: float
    ttfa_ms: float
    audible_ms: float
    rtf: float
    own: float | None = None
    cut: int | None = None
    teacher_wer: float | None = None
    distance_db: float | None = None
    spectrum_db: float | None = None
    teacher_pitch_hz: float | None = None
    without: str = ""

    @property
    def mean_wer(self) -> float:
        """Of all seeds."""
        return sum(self.wer) / len(self.wer)

    @property
    def above_teacher(self) -> float | None:
        """By how much the voice is heard worse than its teacher."""
        return None if self.teacher_wer is None else self.mean_wer - self.teacher_wer


class VoiceReport(msgspec.Struct, frozen=True):
    """All voices, in the order in which they were asked for."""

    model: str
    sentences: int
    seeds: tuple[int, ...]
    voices: tuple[VoiceFigures, ...]


Cell: TypeAlias = Callable[[VoiceFigures], str]


@dataclass(frozen=True, slots=True)
class Measure:
    """A line of the table: its name, what it says of a voice, and what it is, for those who ask."""

    name: str
    cell: Cell
    says: str


def _number(name: str, form: str) -> Cell:
    def cell(figures: VoiceFigures) -> str:
        value = getattr(figures, name)
        return UNKNOWN if value is None else format(value, form)

    return cell


def _each_wer(figures: VoiceFigures) -> str:
    return " ".join(f"{wer:.3f}".removeprefix("0") for wer in figures.wer)


MEASURES = (
    Measure("word error rate", _number("mean_wer", ".3f"), "by pocketsphinx, the mean of all seeds"),
    Measure("  of each seed", _each_wer, "in the order of the seeds"),
    Measure("  its teacher's", _number("teacher_wer", ".3f"), "the same sentences as the teacher says them"),
    Measure("  above the teacher", _number("above_teacher", "+.3f"), "what the voice adds to its teacher's errors"),
    Measure("runaway", _number("runaway", "d"), "no end, or more than 1.6 times as long as the teacher's"),
    Measure("cut", _number("cut", "d"), "less than 0.6 times as long as the teacher's"),
    Measure("empty", _number("empty", "d"), "nothing can be heard"),
    Measure("mel-cepstral distance, dB", _number("distance_db", ".2f"), "to the teacher's reading, after alignment"),
    Measure("average spectrum, dB", _number("spectrum_db", ".2f"), "what it differs from the teacher's by"),
    Measure("pitch, Hz", _number("pitch_hz", ".0f"), "the median"),
    Measure("  its teacher's", _number("teacher_pitch_hz", ".0f"), "the median"),
    Measure("  spread, semitones", _number("pitch_spread_semitones", ".1f"), "between the quartiles"),
    Measure("nearest to itself", _number("own", ".1%"), "utterances that no other voice's profile is nearer to"),
    Measure("leading silence, ms", _number("lead_ms", ".0f"), "to the first sample that can be heard, median"),
    Measure("  worst", _number("lead_worst_ms", ".0f"), "of all utterances"),
    Measure("loudness, LUFS", _number("loudness_lufs", ".1f"), "by BS.1770, median"),
    Measure("  spread, LU", _number("loudness_spread_lu", ".1f"), "between the 10th and the 90th percentile"),
    Measure("time to first chunk, ms", _number("ttfa_ms", ".0f"), "one stream, median"),
    Measure("  to audible sound, ms", _number("audible_ms", ".0f"), "one stream, median"),
    Measure("real-time factor", _number("rtf", ".2f"), "seconds of work for a second of sound, one stream"),
)


def table(report: VoiceReport) -> str:
    """A column for each voice."""
    rows = [["", *(figures.voice for figures in report.voices)]]
    rows += [[measure.name, *map(measure.cell, report.voices)] for measure in MEASURES]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    seeds = f"{len(report.seeds)} seed{'s' if len(report.seeds) > 1 else ''}"
    lines = [f"{report.model}: {report.sentences} sentences, {seeds}", ""]
    lines += [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([*lines, *_whys(report)])


def _whys(report: VoiceReport) -> Iterator[str]:
    whys = dict.fromkeys(figures.without for figures in report.voices if figures.without)
    for why in whys:
        names = ", ".join(figures.voice for figures in report.voices if figures.without == why)
        yield f"\n{UNKNOWN} no teacher for {names}: {why}"
