"""What a soak has found, and how it is shown."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from .sampling import Sample
from .verdict import Row

HEADINGS = ("", "", "settled", "end", "most", "slack", "")


class Outcome(msgspec.Struct, frozen=True):
    """It is `fine` if nothing leaks, no request was lost and no worker `died` but those that were killed.

    `ends` counts how requests ended.
    """

    seconds: float
    ends: dict[str, int]
    killed: int
    lost: list[str]
    rows: list[Row]
    samples: list[Sample]
    died: int = 0  # processes of workers that ended, and nobody had killed them here

    @property
    def leaks(self) -> list[Row]:
        """What has grown beyond its slack."""
        return [row for row in self.rows if row.leaks]

    @property
    def fine(self) -> bool:
        """Whether all is well."""
        return not self.problems

    @property
    def summary(self) -> str:
        """One line."""
        ends = ", ".join(f"{count:,} {end}" for end, count in sorted(self.ends.items()))
        return f"{self.seconds:.0f} s; workers killed: {self.killed}; requests: {ends or 'none'}"

    @property
    def problems(self) -> list[str]:
        """A line for each thing that is wrong."""
        leaks = [f"{row.what} of {row.whose} went from {row.settled:g} to {row.last:g}" for row in self.leaks]
        deaths = [f"workers that died by themselves: {self.died}"] if self.died else []
        return [f"it leaks: {leak}" for leak in leaks] + deaths + self.lost


def table(rows: Sequence[Row]) -> str:
    """The rows in columns; what leaks is marked."""
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(_padded, line, widths, range(len(line)))).rstrip() for line in cells)


def _cells(row: Row) -> tuple[str, str, str, str, str, str, str]:
    settled, last, most, slack = (
        f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
        for value in (row.settled, row.last, row.most, row.slack)
    )
    return row.whose, row.what, settled, last, most, slack, "LEAKS" if row.leaks else ""


def _padded(cell: str, width: int, column: int) -> str:
    """Words begin at the left, numbers end at the right."""
    return cell.rjust(width) if 2 <= column < 6 else cell.ljust(width)
