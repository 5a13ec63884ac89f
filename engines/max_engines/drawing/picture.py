"""One picture on its way: two sequences of the language model, one that has read the prompt and one that has not."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from max_interfaces.protocols import SequenceStart
from max_interfaces.sampling import SamplingParams

from ..added_states import AddedStates
from ..engine import Beside
from ..hidden_states import HiddenStates
from ..sampling_row import SamplingRow
from .model import DrawingModel


class Picture:
    """Both sequences go on with the same codes, each chosen by what they think together.

    What the language model itself would say is of no matter: nothing is ever looked up for it, for the embedding of a
    code stands in its place. A prompt that is not read is padding, as many ids, and is attended to.
    Source: transformers' `JanusForConditionalGeneration.generate`.
    """

    def __init__(self, start: SequenceStart, model: DrawingModel) -> None:
        self.row = SamplingRow(replace(start, prompt=(), eos_token_ids=frozenset()))
        self.guidance = start.guidance or 1.0
        self.drawn = AddedStates(instead=True)
        self.painting: Future[NDArray[np.uint8]] | None = None
        self.told = False  # its pixels
        self._model = model
        self._listeners = (HiddenStates(), HiddenStates())
        self._thoughts: list[Tensor | None] = [None, None]  # after the last token that has been computed
        self.drawn.extend(model.embedding[self.row.output])
        prompt, kept = prompt_of(start, model), (model.bos_id, model.begin_id)
        self._length = len(prompt)
        self.listener = self._listeners[0]
        unread = tuple(token if token in kept else model.padding_id for token in prompt)
        self.beside = Beside(unread, self._listeners[1])
        self.start = SequenceStart(
            start.request_id,
            prompt,
            # One more than there are codes: the two do not end by themselves.
            SamplingParams(temperature=0, max_new_tokens=model.count + 1, ignore_eos=True),
            start.seed,
            accepted=(0,) * len(start.accepted),
            priority=start.priority,
            cache_salt=str(start.request_id),  # its ids do not say what was computed: nobody may find it
        )

    @property
    def complete(self) -> bool:
        """True if it has all its codes."""
        return len(self.row.output) >= self._model.count

    def thoughts(self) -> Tensor | None:
        """`[2, hidden]`, with the prompt and without, by which the next code is chosen; None if it has to wait."""
        for at, listener in enumerate(self._listeners):
            new = listener.take()
            if new is not None:
                self._thoughts[at] = new[-1]
        known = self._length + len(self.row.output)
        there = [thought for thought in self._thoughts if thought is not None]
        return torch.stack(there) if all(one.known == known for one in self._listeners) else None

    def take(self, code: int) -> None:
        """Go on with a code."""
        self.row.output.append(code)
        self.drawn.extend(self._model.embedding[code : code + 1])


def prompt_of(start: SequenceStart, model: DrawingModel) -> tuple[int, ...]:
    """The prompt, and behind it, unless it is there, the id with which a picture begins."""
    return start.prompt if start.prompt[-1:] == (model.begin_id,) else (*start.prompt, model.begin_id)
