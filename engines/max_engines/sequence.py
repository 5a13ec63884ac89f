"""One sequence of the engine: what it has, and what it still wants."""

from __future__ import annotations

from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart
from max_interfaces.status import GenerationStatus

from .kv_cache import KVCache, KVView
from .sampling_row import SamplingRow


class Sequence:
    """Tokens computed and tokens wanted; there is no prefill and no decode state.

    `computed` tokens have their keys and values in `blocks`. Both can be thrown away at any time and computed again:
    only `row.output` and `status` are what the sequence is.
    """

    def __init__(self, start: SequenceStart, limit: int) -> None:
        self.request_id: RequestID = start.request_id
        self.row = SamplingRow(start)
        self.blocks: list[int] = []
        self.computed = 0
        self._limit = limit
        self._view: tuple[int, KVView] | None = None
        self.status = self._status()
        self.reported = False

    @property
    def length(self) -> int:
        """Tokens in all, prompt and output."""
        return len(self.row.prompt) + len(self.row.output)

    @property
    def wanted(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return self.length - self.computed

    @property
    def running(self) -> bool:
        """True while it holds memory."""
        return bool(self.blocks)

    def tokens(self, first: int, last: int) -> list[int]:
        """Token ids at positions `first` to `last` (excluded)."""
        prompt, output = self.row.prompt, self.row.output
        if first >= len(prompt):
            return output[first - len(prompt) : last - len(prompt)]
        return [*prompt[first:last], *output[: max(0, last - len(prompt))]]

    def accept(self, token: int) -> None:
        """Append a sampled token, and see whether it was the last."""
        self.row.output.append(token)
        self.status = self._status()

    def forget(self) -> list[int]:
        """Drop what was computed and return the blocks, which are no longer its own."""
        blocks, self.blocks = self.blocks, []
        self.computed = 0
        self._view = None
        return blocks

    def view(self, cache: KVCache, count: int) -> KVView:
        """Its first `count` blocks in the cache. The last view is kept: in decode it serves for a whole block."""
        if self._view is None or self._view[0] != count:
            self._view = (count, cache.view(self.blocks[:count]))
        return self._view[1]

    def _status(self) -> GenerationStatus:
        output = self.row.output
        if output and output[-1] in self.row.end_ids and len(output) >= self.row.params.min_new_tokens:
            return GenerationStatus.END_OF_SEQUENCE
        if len(output) >= self._limit:
            return GenerationStatus.MAXIMUM_LENGTH
        return GenerationStatus.ACTIVE
