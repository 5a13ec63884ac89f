"""What the headers of an answer say of how long it took."""

from __future__ import annotations

import time

from max_interfaces import TextGenerationOutput
from max_interfaces.text import GenerationStatistics

NOTHING = GenerationStatistics()


class Timing:
    """The way of one request, from its arrival. Times in seconds; the headers have whole milliseconds."""

    def __init__(self, device: str, inputs: str) -> None:
        self._device = device
        self._characters = len(inputs)
        self._begin = time.perf_counter()
        self._checked = self._begin

    def checked(self) -> None:
        """The request is valid."""
        self._checked = time.perf_counter()

    def early(self) -> dict[str, str]:
        """The headers that are known before the first token."""
        return {
            "x-compute-type": "gpu+optimized" if self._device.startswith("cuda") else f"{self._device}+optimized",
            "x-compute-characters": str(self._characters),
        }

    def whole(self, last: TextGenerationOutput) -> dict[str, str]:
        """All headers. What neither the check nor the model took is time in queues."""
        spent = last.statistics or NOTHING
        total = time.perf_counter() - self._begin
        inference, validation = spent.prompt_s + spent.generation_s, self._checked - self._begin
        times = {
            "x-total-time": total,
            "x-validation-time": validation,
            "x-queue-time": max(0.0, total - validation - inference),
            "x-inference-time": inference,
            "x-time-per-token": inference / max(1, spent.generated_tokens),
        }
        return {
            **self.early(),
            "x-compute-time": f"{total:.6f}",
            "x-prompt-tokens": str(last.num_prompt_tokens),
            "x-generated-tokens": str(spent.generated_tokens),
            **{name: str(round(1000 * seconds)) for name, seconds in times.items()},
        }
