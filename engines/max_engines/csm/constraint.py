"""What a constraint over the ids of a model with frames means to one codebook."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import ref

import numpy as np
from numpy.typing import NDArray

from .ids import FrameIds

if TYPE_CHECKING:
    from .utterance import Utterance

Mask = NDArray[np.bool_]
MASKS_KEPT = 256  # those that were cut, of a few KB; the whole ones are not kept


class CodebookMasks:
    """Cuts masks over all ids into those of a codebook, and gives the same array for the same one."""

    def __init__(self, ids: FrameIds) -> None:
        self._ids = ids
        # With each what it was cut from: when that is gone, its id can be another array's.
        self._cut: OrderedDict[tuple[int, int, bool], tuple[ref[Mask] | None, Mask]] = OrderedDict()

    def of(self, codebook: int, allowed: Mask | None, like_the_end: bool) -> Mask | None:
        """bool[size] of a codebook, None for all. The end's code is not in it if a frame must not be like the end."""
        if allowed is None and like_the_end:
            return None
        key = (id(allowed), codebook, like_the_end)
        whole, cut = self._cut.get(key, (None, None))
        if cut is None or (whole is not None and whole() is not allowed):
            cut = self._made(codebook, allowed, like_the_end)
            self._cut[key] = (None if allowed is None else ref(allowed), cut)
            if len(self._cut) > MASKS_KEPT:
                self._cut.popitem(last=False)
        return cut

    def _made(self, codebook: int, allowed: Mask | None, like_the_end: bool) -> Mask:
        first, last = self._ids.first(codebook), self._ids.first(codebook + 1)
        mask = np.ones(last - first, np.bool_) if allowed is None else allowed[first:last].copy()
        mask[self._ids.end_code] &= like_the_end
        mask.flags.writeable = False
        return mask


class CodebookConstraint:
    """The `TokenConstraint` of one sequence's codes: which may come next depends on all its ids, which it has."""

    def __init__(self, utterance: Utterance) -> None:
        self._utterance = utterance

    def allowed(self, tokens: Sequence[int]) -> Mask | None:
        """See `TokenConstraint`; `tokens` are the codes that are sampled in the same place, which say less."""
        return self._utterance.allowed()
