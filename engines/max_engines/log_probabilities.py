"""Log probabilities of what was chosen and of what else was likely: the model's own, before any rule of sampling.

As vLLM's `raw_logprobs`, they are log_softmax of the raw logits in float32 and do not depend on sampling parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from max_interfaces.conversion import unchecked
from max_interfaces.sampling import SamplingParams
from max_interfaces.text import LogProbabilities

from .host_copy import HostCopy
from .likeliest import likeliest

MOST_LIKELIEST = 1024  # entries of one `top_log_probabilities` mapping
MOST_ROW_VALUES = 2**26  # of one `all_log_probabilities`: 256 MiB
LEAST = -1e9  # stands for the logarithm of 0, which JSON could not carry
TIES = 64  # how many that tie with the last of `top_n_tokens` are looked for: equal logits could tie all of them
_draft = unchecked(LogProbabilities)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which log probabilities one sequence asked for, besides those of the chosen tokens.

    The `top` likeliest; the `tied` likeliest and what ties with the last of them; the `whole` vocabulary.
    """

    top: int = 0
    tied: int = 0
    whole: bool = False

    @classmethod
    def of_output(cls, params: SamplingParams) -> Wanted | None:
        """What `logprobs` and `top_n_tokens` ask for; None for nothing at all."""
        if params.logprobs is None and not params.top_n_tokens:
            return None
        return cls(max(params.logprobs or 0, 0), params.top_n_tokens, params.logprobs == -1)

    @classmethod
    def of_prompt(cls, params: SamplingParams) -> Wanted | None:
        """What `prompt_logprobs` asks for; None for nothing at all."""
        if params.prompt_logprobs is None:
            return None
        return cls(max(params.prompt_logprobs, 0), 0, params.prompt_logprobs == -1)

    def width(self, vocab_size: int) -> int:
        """How many of the likeliest have to be found."""
        tied = self.tied + TIES if self.tied else 0
        return min(max(self.top, tied), vocab_size, MOST_LIKELIEST)


class PendingLogProbabilities:
    """Log probabilities of some tokens, all of which want the same, while the device still computes them.

    `logits` `[rows, vocabulary]` are the model's own, `tokens` int64[rows] what was chosen from them, or
    int64[rows, several] what could be. Takes copies.
    """

    def __init__(self, logits: Tensor, tokens: Tensor, wanted: Wanted) -> None:
        self._wanted = wanted
        scores = logits.float()
        scale = scores.logsumexp(1, keepdim=True)
        values, ids = likeliest(scores, wanted.width(scores.shape[1]))
        chosen = scores.gather(1, tokens[:, None] if tokens.ndim == 1 else tokens)
        self._chosen = chosen.shape[1]
        found = torch.cat((chosen, values), 1) - scale
        whole = (scores - scale if wanted.whole else scores[:, :0]).clamp_min_(LEAST)
        self._copy = HostCopy(found.clamp_min_(LEAST), ids, whole)

    def together(self) -> LogProbabilities:
        """One value for all the tokens, in their order."""
        chosen, likeliest, whole = self._read()
        return LogProbabilities(tuple(value for (value,) in chosen), likeliest, whole)

    def each(self) -> list[LogProbabilities]:
        """One value for each row's token."""
        chosen, likeliest, whole = self._read()
        return [
            LogProbabilities((value,), likeliest[row : row + 1], None if whole is None else whole[row : row + 1])
            for row, (value,) in enumerate(chosen)
        ]

    def drafts(self) -> list[list[LogProbabilities]]:
        """One for each of each row's tokens, neither checked nor frozen: `LogProbabilities.joined` does that."""
        chosen, likeliest, whole = self._read()
        return [
            [
                _draft(((value,), likeliest[row : row + 1], None if whole is None else whole[row : row + 1]))
                for value in values
            ]
            for row, values in enumerate(chosen)
        ]

    def _read(self) -> tuple[list[list[float]], tuple[dict[int, float], ...], NDArray[np.float32] | None]:
        """Those of each row's tokens, and the other fields of a `LogProbabilities` for all rows."""
        found, ids, whole = self._copy.read()
        values: list[list[float]] = found.tolist()
        entries = [self._likeliest(row[self._chosen :], own) for row, own in zip(values, ids.tolist(), strict=True)]
        return (
            [row[: self._chosen] for row in values],
            tuple(entries) if ids.shape[1] else (),
            whole.numpy() if self._wanted.whole else None,
        )

    def _likeliest(self, values: list[float], ids: list[int]) -> dict[int, float]:
        """The wanted ones of one token, the likeliest first; what ties is in the order of ids."""
        wanted = self._wanted
        last = values[min(wanted.tied, len(values)) - 1] if wanted.tied else 0.0
        count = max(wanted.top, sum(value >= last for value in values))
        return {token: value for value, token in sorted(zip(values, ids, strict=True), key=_order)[:count]}


def _order(entry: tuple[float, int]) -> tuple[float, int]:
    return -entry[0], entry[1]


@torch.inference_mode()
def prompt_log_probabilities(logits: Tensor, followers: Sequence[int], params: SamplingParams) -> LogProbabilities:
    """Those of ids `followers` of a prompt, each under the logits `[tokens, vocabulary]` of the token before it.

    For a sequence that asked with `prompt_logprobs`; ValueError for one that did not.
    """
    wanted = Wanted.of_prompt(params)
    if wanted is None:
        raise ValueError("SamplingParams.prompt_logprobs = None: nothing to compute")
    tokens = torch.tensor(followers, dtype=torch.int64, device=logits.device)
    return PendingLogProbabilities(logits, tokens, wanted).together()


def join(parts: Sequence[LogProbabilities]) -> LogProbabilities:
    """The log probabilities of a prompt that was computed in parts, in order."""
    whole = [part.all_log_probabilities for part in parts if part.all_log_probabilities is not None]
    return LogProbabilities(
        tuple(value for part in parts for value in part.token_log_probabilities),
        tuple(entry for part in parts for entry in part.top_log_probabilities),
        np.concatenate(whole) if whole else None,
    )
