"""What the encoders have made of a prompt's images and sounds."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from max_interfaces.sampling import SamplingParams

from ..prompt_states import PromptStates
from .positions import Positions

DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Part:
    """Tokens `first` to `last` (excluded) of a prompt, one image or sound; `digest` tells what they show."""

    first: int
    last: int
    digest: bytes

    @classmethod
    def of(cls, first: int, last: int, *shown: Tensor) -> Part:
        """With the digest of tensors `[tokens, …]` of the whole prompt, of which the part's own rows are read."""
        state = blake2b(digest_size=DIGEST_BYTES)
        for tensor in shown:
            state.update(tensor[first:last].reshape(-1).view(torch.uint8).cpu().numpy().tobytes())
        return cls(first, last, state.digest())


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Perceived:
    """What stands in a prompt beside text, and how it is read.

    `joint` are runs of tokens, from the first to the last (excluded), that see each other, also those behind them.
    `positions` are there if they are not one for each token. `parts` are all that is not looked up by an id.
    """

    states: PromptStates | None = None
    positions: Positions | None = None
    joint: tuple[tuple[int, int], ...] = ()
    parts: tuple[Part, ...] = ()

    def note(self, first: int, last: int) -> bytes:
        """What tokens `first` to `last` (excluded) show beside their ids: two that show the same have the same."""
        shown = b"".join(part.digest for part in self.parts if part.first < last and first < part.last)
        return shown if self.positions is None else shown + self.positions.note(first, last)

    def check(self, params: SamplingParams, soft_prompt: int) -> None:
        """ValueError, naming the field, for what cannot be had beside a soft prompt, or with few or quantised keys."""
        if self.states is not None and soft_prompt:
            raise ValueError("SequenceStart.media: cannot stand beside a soft prompt; leave one of the two out")
        for field in ("kv_bits", "max_kv_size"):
            value = getattr(params, field)
            if self.joint and value is not None:
                raise ValueError(f"SamplingParams.{field} = {value}: this model's images see all keys; leave it None")


TEXT_ALONE = Perceived()
