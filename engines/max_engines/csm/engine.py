"""The engine of a model that writes a frame of codes a step."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from max_interfaces.errors import DeviceLost
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta

from ..config import EngineConfig
from ..device_errors import device_lost
from ..engine import Engine
from ..sampler import Sampler
from .constraint import CodebookMasks
from .depth import DepthDecoder
from .model import CsmModel
from .utterance import Utterance


class CsmEngine:
    """A `TokenGenerator` that gives all ids of a frame at once; `FrameIds` says which they are.

    The backbone is an `Engine`, whose tokens are the first codes of frames. A step moves it, then the depth decoder
    writes the other codes of all frames that have been begun, in one batch. If that fails, what the backbone has done
    is kept, and the step can be repeated with fewer: frames that were begun come first, as many as the depth decoder
    has lanes, and the backbone moves nobody beside them. `max_new_tokens` counts ids.
    """

    def __init__(self, model: CsmModel, config: EngineConfig | None = None) -> None:
        config = EngineConfig() if config is None else config
        self.ids = model.ids
        # The next step of a sequence needs the frame of this one.
        self.backbone = Engine(model.backbone, replace(config, overlap=False))
        self._model = model
        self._depth: DepthDecoder = model.depth(config.max_batch)
        self._sampler = Sampler()
        self._masks = CodebookMasks(model.ids)
        self._utterances: dict[RequestID, Utterance] = {}
        self._untold: dict[RequestID, TokenDelta] = {}  # also of a step that failed afterwards

    @property
    def max_length(self) -> int:
        """The most places, text and frames, that one sequence can have."""
        return self.backbone.max_length

    @torch.inference_mode()
    def add(self, start: SequenceStart) -> None:
        """See `TokenGenerator`. ValueError, naming the field, for what has no meaning for frames."""
        if start.request_id in self._utterances:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        utterance = Utterance(start, self.ids, self._model.embeddings, self._masks)
        if utterance.ending is None:
            self.backbone.add(
                utterance.backbone, perceived=utterance.read, listener=utterance.listener, added=utterance.added
            )
        else:
            utterance.done = True
            self._untold[start.request_id] = utterance.ending
        self._utterances[start.request_id] = utterance

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """See `TokenGenerator`."""
        moved = {key: self._utterances[key] for key in active}
        if not any(utterance.begun for utterance in moved.values()):
            self._begin(moved)
        begun = [(key, utterance) for key, utterance in moved.items() if utterance.begun]
        if begun:
            self._finish(dict(begun[: self._depth.lanes]))
        return {key: self._untold.pop(key) for key in active if key in self._untold}

    def release(self, request_id: RequestID) -> None:
        """See `TokenGenerator`."""
        self.backbone.release(request_id)
        self._utterances.pop(request_id, None)
        self._untold.pop(request_id, None)

    def _begin(self, moved: Mapping[RequestID, Utterance]) -> None:
        """Move the backbone, which gives first codes to `max_batch` of them at most."""
        waiting = [key for key, utterance in moved.items() if not (utterance.done or key in self._untold)]
        for key, delta in (self.backbone.step(waiting) if waiting else {}).items():
            told = moved[key].hear(delta)
            if told is not None:
                self._untold[key] = told

    @torch.inference_mode()
    def _finish(self, begun: Mapping[RequestID, Utterance]) -> None:
        """Write the other codes of frames that are begun. If that fails, those that are not whole have none of them."""
        utterances = [*begun.values()]
        rows = [utterance.row for utterance in utterances]
        written = 0

        def choose(scores: Tensor) -> Tensor:
            nonlocal written
            sampled = self._sampler.sample(scores, rows)
            for utterance, code in zip(utterances, sampled.resolve(), strict=True):
                utterance.write(code)
            written += 1
            return sampled.tokens

        first = torch.tensor([utterance.first for utterance in utterances], device=self._model.backbone.device)
        thoughts = torch.stack([utterance.listener.state for utterance in utterances])
        try:
            rests = self._model.embeddings.rest(self._depth.unroll(thoughts, first, choose))
            for rest, (key, utterance) in zip(rests, begun.items(), strict=True):
                self._untold[key] = utterance.finish(rest)
                if utterance.done:
                    self.backbone.release(key)
        except Exception as problem:
            for utterance in utterances:
                if utterance.begun:
                    utterance.take_back(written)
            if device_lost(problem, self._model.backbone.device):
                raise DeviceLost(f"the device is lost: {problem}") from problem
            raise
