"""The engine of a model that draws: texts and pictures in one batch of its language model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from max_interfaces.errors import DeviceLost
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart, TokenDelta
from max_interfaces.status import GenerationStatus

from ..config import EngineConfig
from ..device_errors import device_lost, out_of_memory
from ..engine import Engine
from ..sampler import Sampler
from ..sampling_row import check_start
from .model import DrawingModel
from .picture import Picture, prompt_of

POLL_S = 0.01  # how long a step with nothing else to do waits for pixels
SIDE_BY_SIDE = 2  # sequences of a picture


class DrawingEngine:
    """A `TokenGenerator` whose sequences may have `guidance`: then they are pictures.

    A picture is two sequences of the language model, side by side in the batch of all others. A step moves these, and
    chooses a code for each picture of which both have been computed. Pixels are made in a thread beside, one picture
    after the other, for they can take seconds. If a step fails, what had succeeded is told when it is repeated. Pixels
    that fail are not made again, but once for want of memory: each step with that picture raises what they raised,
    until it is released, so that whoever repeats the step with fewer finds it.
    """

    def __init__(self, model: DrawingModel, config: EngineConfig | None = None) -> None:
        self.model = model
        self.language = Engine(model.language, config)
        self._sampler = Sampler()
        self._pictures: dict[RequestID, Picture] = {}
        self._untold: dict[RequestID, TokenDelta] = {}  # of a step that failed afterwards
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pixels")

    @property
    def max_length(self) -> int:
        """The most tokens, prompt and output, that one text can have."""
        return self.language.max_length

    def add(self, start: SequenceStart) -> None:
        """See `TokenGenerator`. ValueError, naming the field, for a picture that cannot be drawn."""
        if start.guidance is None:
            self.language.add(start)
            return
        self._check(start)
        picture = Picture(start, self.model)
        if not picture.complete:
            self.language.add(picture.start, listener=picture.listener, added=picture.drawn, beside=picture.beside)
        self._pictures[start.request_id] = picture

    def step(self, active: Collection[RequestID]) -> Mapping[RequestID, TokenDelta]:
        """See `TokenGenerator`."""
        pictures = {key: picture for key in active if (picture := self._pictures.get(key)) is not None}
        drawn = {key: picture for key, picture in pictures.items() if not picture.complete and key not in self._untold}
        moved = [key for key in active if key in drawn or not (key in pictures or key in self._untold)]
        for key, delta in (self.language.step(moved) if moved else {}).items():
            if key not in drawn:
                self._untold[key] = delta
        self._draw(drawn)
        self._paint({key: picture for key, picture in pictures.items() if picture.complete}, busy=bool(moved))
        return {key: self._untold.pop(key) for key in active if key in self._untold}

    def release(self, request_id: RequestID) -> None:
        """See `TokenGenerator`."""
        self.language.release(request_id)
        self._untold.pop(request_id, None)
        picture = self._pictures.pop(request_id, None)
        if picture is not None and picture.painting is not None:
            picture.painting.cancel()

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        self._thread.shutdown(cancel_futures=True)

    def _check(self, start: SequenceStart) -> None:
        if start.request_id in self._pictures:
            raise ValueError(f"SequenceStart.request_id = {start.request_id}: is running already")
        check_start(replace(start, prompt=start.prompt[:1] and (0,), eos_token_ids=frozenset()), self.model.codes)
        if start.media:
            raise ValueError("SequenceStart.media: a picture is drawn of text alone; leave them out")
        for field in ("constraint", "adapter", "prompt_adapter", "voice"):
            if getattr(start, field) is not None:
                raise ValueError(f"SequenceStart.{field}: cannot be had for a picture; leave it out")
        count, size = self.model.count, self.language.config.block_size
        if start.sampling_params.searches:
            raise ValueError(f"SamplingParams.beam_width = {start.sampling_params.beam_width}: a picture has no beams")
        if len(start.accepted) > count:
            raise ValueError(f"SequenceStart.accepted has {len(start.accepted)} codes: a picture has {count}")
        if self.language.config.max_batch < SIDE_BY_SIDE:
            raise ValueError("SequenceStart.guidance: a picture is two sequences, and this engine has one at a time")
        most = min(self.language.max_length, self.language.blocks // SIDE_BY_SIDE * size) - count - 1
        if (length := len(prompt_of(start, self.model))) > most:
            room = f"a picture has {count} codes behind it, and takes memory twice"
            raise ValueError(f"SequenceStart.prompt has {length} tokens: at most {max(0, most)} fit, for {room}")

    def _draw(self, pictures: Mapping[RequestID, Picture]) -> None:
        """Choose a code for each picture that has been thought of; all of them in one product."""
        thoughts = {key: found for key, picture in pictures.items() if (found := picture.thoughts()) is not None}
        if not thoughts:
            return
        ready = [pictures[key] for key in thoughts]
        scores = self.model.scores(torch.cat(list(thoughts.values())))
        read, unread = scores.view(len(ready), SIDE_BY_SIDE, -1).unbind(1)
        guidance = torch.tensor([[picture.guidance] for picture in ready], device=read.device)
        guided = unread + (read - unread) * guidance
        codes = self._sampler.sample(guided, [picture.row for picture in ready]).resolve()
        for key, picture, code in zip(thoughts, ready, codes, strict=True):
            picture.take(code)
            self._untold[key] = TokenDelta((code,))
            if picture.complete:
                self.language.release(key)

    def _paint(self, pictures: Mapping[RequestID, Picture], *, busy: bool) -> None:
        """Have pixels made of those with all their codes, and tell what has been made."""
        waiting = {key: picture for key, picture in pictures.items() if not picture.told}
        for picture in waiting.values():
            if picture.painting is None:
                picture.painting = self._thread.submit(self._pixels, picture.row.output)
        paintings = {key: picture.painting for key, picture in waiting.items() if picture.painting is not None}
        if paintings and not busy and not self._untold:
            wait(paintings.values(), POLL_S, FIRST_COMPLETED)
        for key, painting in paintings.items():
            if painting.done():
                picture = waiting[key]
                made = self._result(painting)
                told = self._untold.get(key, TokenDelta())
                self._untold[key] = msgspec.structs.replace(told, status=GenerationStatus.MAXIMUM_LENGTH, picture=made)
                picture.told = True

    def _pixels(self, codes: Sequence[int]) -> NDArray[np.uint8]:
        """In the thread. Memory that is short may be so for a step beside it alone."""
        try:
            return self.model.picture(codes)
        except Exception as problem:
            if not out_of_memory(problem):
                raise
        return self.model.picture(codes)  # out here the exception is gone, and what it had on the device

    def _result(self, painting: Future[NDArray[np.uint8]]) -> NDArray[np.uint8]:
        try:
            return painting.result()
        except RuntimeError as problem:
            if device_lost(problem, self.model.language.device):
                raise DeviceLost(f"the device is lost: {problem}") from problem
            raise
