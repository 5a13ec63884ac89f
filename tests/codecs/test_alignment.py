"""Alignment against its obvious twin, which looks at all that there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from max_codecs.alignment import Borders, Unit, align

COLUMNS = 3
Units = list[Unit]


def ways(units: Units, steps: int, loose: int) -> Iterator[Borders]:
    """All borders that there may be."""

    def go_on(borders: list[int]) -> Iterator[list[int]]:
        if len(borders) == len(units) + 1:
            yield borders
            return
        for border in range(borders[-1], steps + 1):
            yield from go_on([*borders, border])

    for borders in go_on([0]):
        given = [late - early for early, late in pairwise(borders)]
        waiting = [number for number, unit in enumerate(units) if not unit.optional and not given[number]]
        in_order = not waiting or not any(given[waiting[0] :])  # nobody is before one that is still to come
        if borders[-1] == steps and in_order and len(waiting) <= loose:
            yield tuple(borders)


def score(scores: NDArray[np.float64], units: Units, borders: Borders) -> float:
    spans = zip(units, pairwise(borders), strict=True)
    return float(sum(scores[early:late, unit.column].sum() for unit, (early, late) in spans))


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.float64], Units, int]:
    units = draw(st.lists(st.builds(Unit, st.integers(0, COLUMNS - 1), st.booleans()), min_size=1, max_size=5))
    steps = draw(st.integers(0, 6))
    values = st.lists(st.integers(-9, 0), min_size=COLUMNS, max_size=COLUMNS)
    rows = draw(st.lists(values, min_size=steps, max_size=steps))
    return np.array(rows, np.float64).reshape(steps, COLUMNS), units, draw(st.integers(0, 2))


@given(cases())
@settings(max_examples=300, deadline=None)
def test_no_borders_are_likelier(case: tuple[NDArray[np.float64], Units, int]) -> None:
    scores, units, loose = case
    found = align(scores, units, loose)
    possible = list(ways(units, len(scores), loose))
    needed = sum(not unit.optional for unit in units)
    if needed and len(scores) and possible:
        assert found in possible
        assert score(scores, units, found) == max(score(scores, units, borders) for borders in possible)
    else:  # no room, or nothing to choose
        assert found[0] == 0
        assert list(found) == sorted(found)
        assert found[-1] in (0, len(scores))


def test_units_lie_where_they_sound() -> None:
    scores = np.log(np.array([[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.8, 0.1]] * 2 + [[0.1, 0.1, 0.8]] * 4))
    assert align(scores, [Unit(0), Unit(1), Unit(2)]) == (0, 3, 5, 9)
    assert align(scores, [Unit(0), Unit(1, optional=True), Unit(2)]) == (0, 3, 5, 9)
    assert align(scores, [Unit(0), Unit(0, optional=True), Unit(1), Unit(2)])[2:] == (3, 5, 9)


def test_what_is_still_to_come_has_no_steps_yet() -> None:
    scores = np.log(np.array([[0.8, 0.1, 0.1]] * 3 + [[0.1, 0.8, 0.1]] * 2))
    assert align(scores, [Unit(0), Unit(1), Unit(2)], loose=1) == (0, 3, 5, 5)
    assert align(scores, [Unit(0), Unit(1), Unit(2)]) == (0, 3, 4, 5)


def test_without_room_the_steps_are_shared() -> None:
    scores = np.zeros((2, 3))
    assert align(scores, [Unit(0), Unit(1), Unit(2), Unit(0)]) == (0, 0, 1, 2, 2)
    assert align(np.zeros((0, 3)), [Unit(0), Unit(1)]) == (0, 0, 0)
