"""How a sequence keeps its keys and values: in which type, and which of them."""

from __future__ import annotations

from dataclasses import dataclass

from max_interfaces.sampling import SamplingParams

PINNED = 4  # first tokens that every query sees: without them a model loses itself (https://arxiv.org/abs/2309.17453)
BITS = (4, 8)


@dataclass(frozen=True, slots=True)
class KVFormat:
    """Keys and values as the model computes them, or of `bits` each in groups of `group`; all or those of a `window`.

    With a window of n a query sees the first `PINNED` tokens and the last n - `PINNED`, itself among them. What it sees
    depends on its position alone, so chunks and batches change nothing; positions stay those in the whole text.
    """

    bits: int | None = None
    group: int = 0
    window: int | None = None

    @property
    def recent(self) -> int | None:
        """How many of the last tokens a query sees; None for all."""
        return None if self.window is None else self.window - PINNED

    @property
    def kind(self) -> str:
        """What must be equal for two sequences to share keys and values; empty for the model's own."""
        return "" if self == PLAIN else f"{self.bits} {self.group} {self.window}"

    def first_seen(self, position: int) -> int:
        """The first of the last tokens that a query at `position` sees."""
        return 0 if self.recent is None else max(0, position - self.recent + 1)


PLAIN = KVFormat()


@dataclass(frozen=True, slots=True)
class KVPlan:
    """A sequence is kept as `first` says until `switch` tokens have been computed, and from then on as `later` says.

    So in which format a query finds its keys depends on its position alone. `switch` None is never.
    """

    first: KVFormat
    later: KVFormat
    switch: int | None = None

    @classmethod
    def of(cls, params: SamplingParams, prompt_length: int) -> KVPlan:
        """What `params` ask for: a prompt that reaches `quantized_kv_start` is quantised from its beginning."""
        whole = KVFormat(window=params.max_kv_size)
        if params.kv_bits is None:
            return cls(whole, whole)
        quantised = KVFormat(params.kv_bits, params.kv_group_size, params.max_kv_size)
        if prompt_length >= params.quantized_kv_start:
            return cls(quantised, quantised)
        return cls(whole, quantised, params.quantized_kv_start)


def check_kv(params: SamplingParams) -> None:
    """ValueError for a number of bits that there is no format for."""
    if params.kv_bits is not None and params.kv_bits not in BITS:
        raise ValueError(f"SamplingParams.kv_bits = {params.kv_bits}: must be 4 or 8, or None for the model's own")
