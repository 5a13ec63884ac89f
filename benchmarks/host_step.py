"""What a decode step of 64 sequences costs the host, apart from the model and the sampler, one core.

    OMP_NUM_THREADS=1 python benchmarks/host_step.py [--batch 64] [--steps 200] [--json FILE]

The real engine and the real text pipeline, with a model of one narrow layer. Each request has stop strings, a seed and
a temperature, and its text is delivered token by token. A stopwatch around some functions books the time of each to its
row, without that of the functions inside it that have a row of their own. Medians over the steps, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from max_interfaces import Attempt, RequestID, SamplingParams, TextGenerationOutput, TextGenerationRequest
from max_interfaces.protocols import Pipeline
from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig
from max_pipelines.text.build import build

WARM_UP = 50  # steps
PROMPT = "the quick brown fox jumps over the lazy dog"
STOP = ("\n\nHuman:", "###", "</answer>")
SCHEDULING, BUILDING, COMMIT, TEXT, APART = (
    "scheduling",
    "batch building",
    "bookkeeping",
    "stops, detokenising, outputs",
    "model and sampler (apart)",
)


class Stopwatch:
    """Books time to rows; a function's row is charged without what the functions called in it are charged."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = [0.0]  # seconds charged within each of the functions that run now

    def watch(self, owner: object, name: str, row: str) -> None:
        """From now on calls of `owner.name` are charged to `row`."""
        inner: Callable[..., object] = getattr(owner, name)

        def timed(*arguments: object, **named: object) -> object:
            self._inside.append(0.0)
            begin = time.perf_counter()
            try:
                return inner(*arguments, **named)
            finally:
                whole = time.perf_counter() - begin
                self.seconds[row] += whole - self._inside.pop()
                self._inside[-1] += whole

        setattr(owner, name, timed)


def write_model(folder: Path) -> None:
    """A model that costs next to nothing, and a byte-level tokenizer."""
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevelDecoder()
    inner.train_from_iterator(
        [PROMPT] * 3, BpeTrainer(special_tokens=["</s>"], initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_pipeline(folder: Path, batch: int) -> Pipeline[TextGenerationRequest, TextGenerationOutput]:
    """As a worker makes it."""
    config = Config(
        model=ModelConfig(name="free", path=str(folder), dtype="float32"),
        pipeline=PipelineConfig(kind="text"),
        engine=EngineConfig(max_batch=batch),
    )
    return build(config).pipeline


def watched(pipeline: Pipeline[TextGenerationRequest, TextGenerationOutput]) -> Stopwatch:
    """The rows: their functions have no public names, and nobody else needs any."""
    watch = Stopwatch()
    engine = pipeline._generator  # type: ignore[attr-defined]
    watch.watch(pipeline, "execute", TEXT)
    watch.watch(engine, "step", COMMIT)
    watch.watch(engine._scheduler, "schedule", SCHEDULING)
    watch.watch(engine._runner, "run", BUILDING)
    watch.watch(engine._runner, "_forward", APART)
    watch.watch(engine._sampler, "sample", APART)
    return watch


def measure(
    pipeline: Pipeline[TextGenerationRequest, TextGenerationOutput], batch: int, steps: int
) -> dict[str, float]:
    """Milliseconds a step, by row."""
    ids = []
    for seed in range(batch):
        params = SamplingParams(
            max_new_tokens=WARM_UP + steps + 2, ignore_eos=True, seed=seed, stop=STOP, temperature=1.0
        )
        request = TextGenerationRequest(RequestID(), "free", PROMPT, sampling_params=params)
        pipeline.admit(Attempt(request, seed=seed))
        ids.append(request.request_id)
    watch = watched(pipeline)
    rows: dict[str, list[float]] = defaultdict(list)
    outputs = 0
    for number in tqdm(range(WARM_UP + steps), "stepping", leave=False):
        watch.seconds.clear()
        chunks = pipeline.execute(ids)
        if number < WARM_UP:
            continue
        outputs += len(chunks)
        for row in (SCHEDULING, BUILDING, COMMIT, TEXT, APART):
            rows[row].append(watch.seconds[row] * 1000)
    for request_id in ids:
        pipeline.release(request_id)
    if outputs < steps * batch / 2:  # some tokens end in the midst of a character, and have no text yet
        raise RuntimeError(f"{outputs} outputs in {steps} steps of {batch} sequences: this was no decoding")
    figures = {row: statistics.median(times) for row, times in rows.items()}
    host = [sum(times) for times in zip(*(rows[row] for row in rows if row != APART), strict=True)]
    return figures | {"host time of a step": statistics.median(host)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        write_model(Path(folder))
        figures = measure(make_pipeline(Path(folder), options.batch), options.batch, options.steps)
    for name, value in figures.items():
        print(f"{name:<32}{value:>8.3f} ms")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
