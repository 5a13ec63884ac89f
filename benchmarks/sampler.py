"""What sampling costs a step: rows × vocabulary × rules, beside two ways that do without filters of their own.

    python benchmarks/sampler.py [--rows 1 16 64] [--vocab 16384 128256] [--json FILE]

Logits are random: `sure` ones are spread so that the nucleus is small, as a trained model's are most of the time;
`flat` ones so that it is most of the vocabulary. Times are medians of whole calls, tokens on the host, one thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from max_engines.sampler import Sampler
from max_engines.sampling_row import SamplingRow
from max_interfaces.identity import RequestID
from max_interfaces.protocols import SequenceStart
from max_interfaces.sampling import SamplingParams

SPREAD = {"sure": 6.0, "flat": 1.0}  # standard deviation of the logits
RULES: Mapping[str, Mapping[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.8},
    "top_k, top_p": {"temperature": 0.8, "top_k": 50, "top_p": 0.9},
    "top_p": {"temperature": 0.8, "top_p": 0.9},
    "min_p": {"temperature": 0.8, "min_p": 0.05},
    "top_k, typical_p": {"temperature": 0.8, "top_k": 50, "typical_p": 0.9},
    "penalties, top_k, top_p": {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.1, "frequency_penalty": 0.2},
    "top_k, top_p, logprobs 5": {"top_k": 50, "top_p": 0.9, "logprobs": 5},
}
PROMPT, OUTPUT = range(500), range(500, 1000)  # what the penalties have to look at


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table; `milliseconds` for a call with all rows."""

    rows: int
    vocabulary: int
    logits: str
    rules: str
    milliseconds: float


def row(seed: int, params: Mapping[str, Any]) -> SamplingRow:
    """One sequence in the midst of its output."""
    return SamplingRow(
        SequenceStart(RequestID(), tuple(PROMPT), SamplingParams(**params), seed=seed, accepted=tuple(OUTPUT))
    )


def full_sort(logits: Tensor) -> list[int]:
    """The yardstick of 61 ms: top_k and top_p by a sort of everything."""
    values, ids = (logits / 0.8).sort(1, descending=True)
    weights = torch.softmax(values[:, :50], 1)
    weights[weights.cumsum(1) - weights > 0.9] = 0
    tokens: list[int] = ids.gather(1, torch.multinomial(weights, 1))[:, 0].tolist()
    return tokens


def hashed_noise(logits: Tensor) -> list[int]:
    """The yardstick of 40 ms: the Gumbel trick, with a hash of every entry's position in the place of a generator."""
    state = torch.arange(logits.numel()).view(logits.shape) * -7046029254386353131
    state = (state ^ (state >> 30)) * -4658895280553007687
    state = (state ^ (state >> 27)) * -7723592293110705685
    noise = ((state ^ (state >> 31)) & 0xFFFFFF).float().add_(0.5).mul_(2.0**-24)
    tokens: list[int] = (logits / 0.8 - noise.log_().neg_().log_()).argmax(1).tolist()
    return tokens


def sample(sampler: Sampler, logits: Tensor, scratch: Tensor, batch: list[SamplingRow]) -> object:
    """The sampler may overwrite what it is given: a copy is part of the time."""
    sampled = sampler.sample(scratch.copy_(logits), batch)
    return sampled.resolve(), sampled.log_probabilities


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after three that do not count."""
    times = []
    for index in range(repeats + 3):
        begun = time.perf_counter()
        work()
        if index >= 3:
            times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def cases(rows: int, vocabulary: int) -> list[tuple[str, str, Callable[[], object]]]:
    """Name of the logits, name of the rules, and the work."""
    made: list[tuple[str, str, Callable[[], object]]] = []
    for kind, spread in SPREAD.items():
        logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(0)) * spread
        scratch = torch.empty_like(logits)
        for name, params in RULES.items():
            batch = [row(seed, params) for seed in range(rows)]
            made.append((kind, name, partial(sample, Sampler(), logits, scratch, batch)))
        made.append((kind, "yardstick: full sort", partial(full_sort, logits)))
        made.append((kind, "yardstick: hashed noise", partial(hashed_noise, logits)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="What sampling costs a step.")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--vocab", type=int, nargs="+", default=[16_384, 128_256])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    work = [(r, v, *case) for v in options.vocab for r in options.rows for case in cases(r, v)]
    found = []
    for rows, vocabulary, kind, name, run in tqdm(work, unit="case"):
        found.append(Measurement(rows, vocabulary, kind, name, median_ms(run, options.repeats)))
    print(f"{'rows':>4} {'vocabulary':>10} {'logits':6} {'rules':28} {'ms':>8}")
    for each in found:
        print(f"{each.rows:4} {each.vocabulary:10,} {each.logits:6} {each.rules:28} {each.milliseconds:8.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
