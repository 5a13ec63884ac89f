"""A constraint under which a text is taken up again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from max_interfaces.protocols import TokenConstraint


class Again:
    """Has token number `at` of a text be `token`, and leaves all others to another constraint."""

    def __init__(self, at: int, token: int, vocab_size: int, others: TokenConstraint | None) -> None:
        self._at = at
        self._others = others
        self._only: NDArray[np.bool_] = np.zeros(vocab_size, np.bool_)
        self._only[token] = True
        self._only.flags.writeable = False

    def allowed(self, tokens: Sequence[int]) -> NDArray[np.bool_] | None:
        """See `TokenConstraint`."""
        if len(tokens) == self._at:
            return self._only
        return None if self._others is None else self._others.allowed(tokens)
