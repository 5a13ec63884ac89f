"""Steps that run out of memory are taken again with less, and the engine takes less on for a while."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import TypeVar

import torch

from max_interfaces.errors import DeviceLost

from .device_errors import device_lost, out_of_memory
from .scheduler import Chunk, Scheduler

RECOVERY_STEPS = 64  # good ones after which more is tried again: a try that fails costs one step
T = TypeVar("T")


class Shortage:
    """Bounds what a step holds by the memory that there is.

    The KV cache is there from the start; what a step needs beside it depends on its tokens and sequences, and on what
    else is on the device. So a sequence that is left out of a step keeps its own memory: nothing is computed again.
    """

    def __init__(self, scheduler: Scheduler, device: torch.device) -> None:
        self._scheduler = scheduler
        self._device = device
        self._budget, self._batch = scheduler.token_budget, scheduler.batch
        self._good = 0

    def run(self, step: Callable[[], T]) -> T:
        """What `step` gives, which changes nothing if it fails. What it raises passes, but for a want of memory that
        less can help. DeviceLost in place of what the device's loss made it raise.
        """
        while True:
            try:
                result = step()
            except Exception as problem:
                if device_lost(problem, self._device):
                    raise DeviceLost(f"{type(problem).__name__}: {problem}") from problem
                if not self.eased(problem, self._scheduler.planned):
                    raise
            else:
                self._recover()
                return result
            # Out here the exception is gone, and with it what the step that failed had on the device.

    def eased(self, problem: Exception, chunks: Collection[Chunk]) -> bool:
        """Take less on if memory was short in a step of `chunks`. False if that was not it, or if nothing is less."""
        rows, tokens = len(chunks), sum(chunk.count for chunk in chunks)
        if tokens < 2 or not out_of_memory(problem):
            return False
        scheduler, self._good = self._scheduler, 0
        before = scheduler.token_budget, scheduler.batch
        if tokens > rows:
            scheduler.token_budget = min(scheduler.token_budget, max(1, tokens // 2))
        else:
            scheduler.batch = min(scheduler.batch, rows - max(1, rows // 8))
        if (scheduler.token_budget, scheduler.batch) == before:
            return False  # the beams of one search cannot be parted
        held = f"{scheduler.token_budget} tokens and {scheduler.batch} sequences"
        warnings.warn(f"a step ran out of memory: steps have at most {held} for now: {problem}", stacklevel=2)
        return True

    def _recover(self) -> None:
        """Note a good step; after some more is tried again."""
        scheduler = self._scheduler
        if scheduler.token_budget == self._budget and scheduler.batch == self._batch:
            return
        self._good += 1
        if self._good == RECOVERY_STEPS:
            self._good = 0
            scheduler.token_budget = min(self._budget, 2 * scheduler.token_budget)
            scheduler.batch = min(self._batch, scheduler.batch + max(1, scheduler.batch // 8))
