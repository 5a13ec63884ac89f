"""A worker's credits, split between the dispatchers that it serves."""

from __future__ import annotations

from collections.abc import Sequence


def shares(total: int, wanted: Sequence[int]) -> list[int]:
    """How many of `total` credits each dispatcher gets: one at least, the rest in proportion to what they want.

    `wanted` are the requests that each has here or has waiting. The shares add up to `total`, or to the number of
    dispatchers if that is more: a request more than the engine's batch waits there, but no dispatcher waits for ever.
    """
    count = len(wanted)
    rest = max(0, total - count)
    whole = sum(wanted)
    weights = list(wanted) if whole else [1] * count
    exact = [rest * weight / sum(weights) for weight in weights]
    given = [int(share) for share in exact]
    by_remainder = sorted(range(count), key=lambda index: (given[index] - exact[index], index))
    for index in by_remainder[: rest - sum(given)]:
        given[index] += 1
    return [1 + share for share in given]
