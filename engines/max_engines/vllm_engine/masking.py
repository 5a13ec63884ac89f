"""A `TokenConstraint` where vLLM expects a grammar: its masks go to all of vLLM's workers with each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from max_interfaces.protocols import TokenConstraint

WORD = 32  # tokens in one int32 of a bit mask


class MaskedSequence:
    """The constraint of one sequence, as vLLM's scheduler calls it (`StructuredOutputGrammar`, without drafts).

    What goes wrong is kept in `problem`: an exception here would end vLLM's engine, and everybody's sequences with it.
    """

    def __init__(self, constraint: TokenConstraint, accepted: Sequence[int]) -> None:
        self.problem = ""
        self._constraint = constraint
        self._tokens = list(accepted)
        self._mask: NDArray[np.bool_] | None = None

    def fill_bitmask(self, bitmask: Tensor, batch_index: int) -> None:
        """Write what may come next into a row int32[vocab_size / 32], the lowest bit first."""
        row = bitmask[batch_index].numpy()
        row.fill(-1)
        try:
            self._mask = self._constraint.allowed(self._tokens)
        except Exception as problem:
            self._mask, self.problem = None, str(problem)
        if self._mask is not None:
            bits = np.packbits(self._mask, bitorder="little")
            row.fill(0)
            row.view(np.uint8)[: bits.size] = bits

    def accept_tokens(self, request_id: str, tokens: list[int]) -> bool:
        """Note what was sampled. Always True: vLLM would end the sequence itself, without a reason."""
        for token in tokens:
            if self._mask is not None and not (token < self._mask.size and self._mask[token]):
                self.problem = self.problem or f"its constraint and its other rules leave no token but {token}"
        self._tokens += tokens
        return True

    def is_terminated(self) -> bool:
        """False: what may follow an end is the constraint's own affair."""
        return False


class MaskRows:
    """Where vLLM's manager of grammars gets the memory of its bit masks (`StructuredOutputBackend`)."""

    def __init__(self, vocab_size: int) -> None:
        self._width = -(-vocab_size // WORD)

    def allocate_token_bitmask(self, max_num_seqs: int) -> Tensor:
        """Rows int32[max_num_seqs, vocab_size / 32] that allow everything."""
        return torch.full((max_num_seqs, self._width), -1, dtype=torch.int32)

    def destroy(self) -> None:
        """Nothing is held."""
