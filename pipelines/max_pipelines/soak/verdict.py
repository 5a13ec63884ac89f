"""What has grown: rests are held against each other."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .processes import FILES, MEMORY, THREADS
from .sampling import FREE, OURSELVES, SERVER, TABLES, Sample

SLACK = {MEMORY: 16.0, FILES: 4.0, THREADS: 2.0}  # of anything else there must not be one more
BREATH = 0.05  # of its memory: a worker of 950 MB had between 913 and 991 for minutes, for steps of different sizes
AT_THE_END = 2  # rests, of which the one with the lowest number counts: what has leaked is there in both
LASTING = (SERVER, OURSELVES, TABLES)  # these are not killed


class Row(msgspec.Struct, frozen=True):
    """One number, of one process or table: when all had settled, at the end, and the most that was ever seen."""

    whose: str
    what: str
    settled: float
    last: float
    most: float
    slack: float
    leaks: bool


def judge(samples: Sequence[Sample], settled: int, calm: int) -> list[Row]:
    """A row for each number that is there at both ends.

    The server and this process are held against the rest after round `settled`; workers, which may have been killed
    since, against that after round `calm`; the dispatcher's tables against the time before the first round.
    """
    rests = [sample for sample in samples if sample.rest is not None]
    last = rests[-1].numbers
    rows: list[Row] = []
    for whose in [*(name for name in LASTING if name in last), *sorted(last.keys() - set(LASTING))]:
        base = 0 if whose == TABLES else settled if whose in LASTING else calm
        before = next((rest.numbers.get(whose, {}) for rest in rests if rest.rest == base), {})
        rows += [_row(samples, whose, what, before[what]) for what in sorted(last[whose].keys() & before.keys())]
    return rows


def _row(samples: Sequence[Sample], whose: str, what: str, before: float) -> Row:
    seen = _series(samples, whose, what)
    ends = _series([sample for sample in samples if sample.rest is not None][-AT_THE_END:], whose, what)
    slack = max(SLACK.get(what, 0.0), BREATH * before if what == MEMORY else 0.0)
    grown = before - max(ends) if what.startswith(FREE) else min(ends) - before
    return Row(whose, what, before, ends[-1], max(seen), slack, grown > slack)


def _series(samples: Sequence[Sample], whose: str, what: str) -> list[float]:
    return [value for sample in samples if (value := sample.numbers.get(whose, {}).get(what)) is not None]
