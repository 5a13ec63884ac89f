"""Which tokens may come next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TokenConstraint(Protocol):
    """Which tokens may come next. Grammar, speech phase and slot order, thinking budget: all are one of these."""

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """Mask over the vocabulary, bool[vocab_size], True where allowed; None allows everything.

        `tokens` are the ids generated so far, without the prompt. Pure: the same tokens give the same mask,
        so that a request can be rebuilt from its tokens in another process. The caller must not write to the
        mask, and an implementation returns the same array object for the same state, so that a device copy
        can be kept. At least one entry is True.
        """
        ...
