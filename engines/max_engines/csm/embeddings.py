"""What the backbone reads in the place of ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding

from .ids import FrameIds, Place


class Embeddings:
    """`text` `[ids of text, hidden]` and `codes` `[codebooks * size, hidden]`. A frame is the sum of its codes'.

    The backbone looks up a frame's first code, and is given the `rest`. That is summed up one code after the other, so
    that it does not depend on how many frames there are.
    """

    def __init__(self, ids: FrameIds, text: Tensor, codes: Tensor) -> None:
        self._ids = ids
        self._text = text
        self._codes = codes

    def rest(self, frames: Tensor) -> Tensor:
        """`[n, hidden]` of all but the first code of frames int64 `[n, codebooks]`."""
        total = self._of(frames, 1).float()
        for codebook in range(2, self._ids.codebooks):
            total += self._of(frames, codebook)
        return total.to(self._codes.dtype)

    def frames(self, codes: Sequence[Sequence[int]]) -> Tensor:
        """Codes of frames as int64 `[n, codebooks]`, where the model is."""
        return torch.tensor(codes, dtype=torch.int64, device=self._codes.device)

    def states(self, places: Sequence[Place]) -> Tensor:
        """`[places, hidden]` of what stands at some places."""
        states = self._text.new_empty(len(places), self._text.shape[1])
        framed: list[int] = []
        frames: list[tuple[int, ...]] = []
        written: list[int] = []
        for at, place in enumerate(places):
            codes = self._ids.codes(place)
            if codes is None:
                written.append(at)
            else:
                framed.append(at)
                frames.append(codes)
        if written:
            states[self._tensor(written)] = embedding(self._tensor([places[at][0] for at in written]), self._text)
        if framed:
            several = self.frames(frames)
            states[self._tensor(framed)] = self._of(several, 0) + self.rest(several)
        return states

    def _of(self, frames: Tensor, codebook: int) -> Tensor:
        return embedding(frames[:, codebook] + codebook * self._ids.size, self._codes)

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._text.device)
