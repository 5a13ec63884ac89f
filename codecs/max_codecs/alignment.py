"""Forced alignment: which steps of a sound belong to which of the units that are known to be spoken in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Borders = tuple[int, ...]  # unit i has the steps from borders[i] up to borders[i + 1]
_NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that is spoken, by its column in the scores. An `optional` one, such as a pause, may have no step."""

    column: int
    optional: bool = False


def align(scores: NDArray[np.floating], units: Sequence[Unit], loose: int = 0) -> Borders:
    """The likeliest borders, by Viterbi's algorithm, for log-probabilities [steps, columns] of each step.

    Units follow one another without a gap and take all steps, each that is not optional at least one; but the last
    `loose` of those may have none yet: their sound is still to come. Without room for that, all that are not optional
    share the steps evenly.
    """
    steps = len(scores)
    needed = [0, *np.cumsum([not unit.optional for unit in units]).tolist()]  # before each unit
    if needed[-1] - loose > steps or not units or not steps:
        return _evenly(needed, steps)
    optional = np.array([unit.optional for unit in units])
    reach = 2 + _longest_run(optional)
    columns = scores[:, [unit.column for unit in units]].astype(np.float64)  # [steps, units]
    came = np.zeros((steps, len(units)), np.int64)  # how many units back the step before is
    best = np.where(np.array(needed[:-1]) == 0, columns[0], _NEVER)
    for step in range(1, steps):
        before = _before(best, optional, reach)
        came[step] = before.argmax(0)
        best = before.max(0) + columns[step]
    left = needed[-1] - np.array(needed[1:])  # behind each unit
    at = int(np.where(left <= loose, best, _NEVER).argmax())
    return _borders(came, at)


def _before(best: NDArray[np.float64], optional: NDArray[np.bool_], reach: int) -> NDArray[np.float64]:
    """What each unit may come from, [reach, units]: itself, the one before, and those before optional ones."""
    units = len(best)
    before = np.full((reach, units), _NEVER)
    before[0] = best
    passable = np.ones(units, np.bool_)  # all between are optional
    for back in range(1, min(reach, units)):
        before[back, back:] = np.where(passable[back:], best[:-back], _NEVER)
        passable[back:] &= optional[:-back]
    return before


def _borders(came: NDArray[np.int64], last: int) -> Borders:
    steps, units = came.shape
    borders = [steps] * (units + 1)
    unit = last
    for step in range(steps - 1, -1, -1):
        back = int(came[step, unit]) if step else unit
        for passed in range(unit - back + 1, unit + 1):
            borders[passed] = step
        unit -= back
    borders[0] = 0
    return tuple(borders)


def _evenly(needed: Sequence[int], steps: int) -> Borders:
    return tuple(round(steps * count / max(1, needed[-1])) for count in needed)


def _longest_run(optional: NDArray[np.bool_]) -> int:
    longest = run = 0
    for one in optional:
        run = run + 1 if one else 0
        longest = max(longest, run)
    return longest
