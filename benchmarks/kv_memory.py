"""What quantised keys and values and windows save, and how far from the model's own they lead.

    OMP_NUM_THREADS=1 python benchmarks/kv_memory.py [--tokens 2000] [--minutes 1.5] [--json FILE]

The engine reads texts that are given, in every format, and tells its log probabilities after each token (logits, less
a constant for each token). Memory is what the pool's blocks really hold at the end, beside a 16-bit cache's of as many
tokens. The texts: sentences that the embedded voice has spoken itself, each alone and all in one text; and Python's own
standard library, for a small Llama that is trained on other parts of it first.
"""

from __future__ import annotations

import argparse
import inspect
import json
import random
import sysconfig
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from max_engines.config import EngineConfig
from max_engines.engine import Engine
from max_engines.loading import LoadedModel, load_model
from max_engines.tokenizer import load_tokenizer
from max_interfaces import RequestID, SamplingParams, SequenceStart
from max_voices import FOLDER, load_voice
from max_voices.recipe.corpus import everyday_sentences
from max_voices.text import spell

Text = tuple[int, ...]
Scores = NDArray[np.float32]

WINDOW = 512
FORMATS = {
    "float": SamplingParams(),
    "8 bits": SamplingParams(kv_bits=8, quantized_kv_start=0),
    "4 bits": SamplingParams(kv_bits=4, quantized_kv_start=0),
    "float, window": SamplingParams(max_kv_size=WINDOW),
    "8 bits, window": SamplingParams(kv_bits=8, quantized_kv_start=0, max_kv_size=WINDOW),
    "4 bits, window": SamplingParams(kv_bits=4, quantized_kv_start=0, max_kv_size=WINDOW),
}
BYTES = 256  # ids of the text model: a byte each
LENGTH, BATCH = 256, 8  # of its training


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of the table. Differences and agreement are those to the first format."""

    model: str
    kept: str
    tokens: int
    bytes_per_token: float
    of_16_bits: float
    largest: float
    mean: float
    agreement: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What an engine says to a text: log probabilities `[tokens - 1, vocabulary]`, and the bytes it holds then."""

    scores: Scores
    held: int


def read(engine: Engine, model: LoadedModel, text: Text, kept: SamplingParams) -> Reading:
    """Read a text in one format, which no other text shares."""
    params = replace(kept, temperature=0.0, max_new_tokens=2, ignore_eos=True, prompt_logprobs=-1)
    start = SequenceStart(RequestID(), text, params, seed=0)
    engine.add(start)
    while (report := engine.step([start.request_id])[start.request_id].prompt) is None:
        pass
    scores = None if report.log_probabilities is None else report.log_probabilities.all_log_probabilities
    if scores is None:
        raise RuntimeError("the engine gave no log probabilities")
    held = (engine.blocks - engine.free_blocks) * engine.config.block_size * bytes_per_token(model, 4)
    engine.release(start.request_id)
    return Reading(scores, held)


def bytes_per_token(model: LoadedModel, each: int) -> int:
    """Of keys and values, with so many bytes for each number."""
    config = model.config
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * each)


def measure(name: str, model: LoadedModel, texts: Sequence[Text]) -> Iterator[Measurement]:
    """All formats over the same texts."""
    engine = Engine(model, EngineConfig(max_batch=1))
    expected: list[Reading] = []
    bar = tqdm(total=len(FORMATS) * len(texts), desc=name, unit="text")
    for kept, params in FORMATS.items():
        readings = []
        for text in texts:
            readings.append(read(engine, model, text, params))
            bar.update()
        expected = expected or readings
        away = [np.abs(one.scores - other.scores) for one, other in zip(readings, expected, strict=True)]
        same = [one.scores.argmax(1) == other.scores.argmax(1) for one, other in zip(readings, expected, strict=True)]
        tokens, held = sum(len(text) for text in texts), sum(reading.held for reading in readings)
        yield Measurement(
            name,
            kept,
            tokens,
            held / tokens,
            held / tokens / bytes_per_token(model, 2),
            float(max(each.max() for each in away)),
            float(np.concatenate([each.mean(1) for each in away]).mean()),
            float(np.concatenate(same).mean()),
        )
    bar.close()


def spoken(model: LoadedModel, tokens: int) -> list[Text]:
    """Sentences with what the voice makes of them, until there are so many tokens in all."""
    form, tokenizer = load_voice(), load_tokenizer(FOLDER / "lm")
    engine = Engine(model, EngineConfig(max_batch=1))
    prompts = form.layout.prompt
    found: list[Text] = []
    bar = tqdm(total=tokens, desc="speaking", unit="token")
    for seed, sentence in enumerate(everyday_sentences()):
        ids = tokenizer.encode(prompts.render(spell(sentence), None), add_special_tokens=False)
        prompt = prompts.build(ids, voice=None, reference=None).ids
        params = SamplingParams(temperature=form.sampling.temperature, top_p=form.sampling.top_p, max_new_tokens=400)
        start = SequenceStart(RequestID(), prompt, params, seed=seed, eos_token_ids=frozenset(form.layout.end_ids))
        said: Text = ()
        engine.add(start)
        while True:
            delta = engine.step([start.request_id])[start.request_id]
            said += delta.tokens
            if delta.status.is_done:
                break
        engine.release(start.request_id)
        found.append((prompt + said)[: tokens - sum(map(len, found))])
        bar.update(len(found[-1]))
        if sum(map(len, found)) >= tokens:
            break
    bar.close()
    return [text for text in found if len(text) > 1]


def library() -> tuple[bytes, bytes]:
    """Python's standard library as one text: what is trained on, and what is read."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    random.Random(0).shuffle(files)
    texts = [file.read_bytes() for file in files]
    last = len(texts) // 10
    return b"\n".join(texts[last:]), b"\n".join(texts[:last])


def train(folder: Path, text: bytes, seconds: float) -> None:
    """A small Llama over bytes, trained for so long."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=BYTES,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    )
    module = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3, weight_decay=0.01)
    data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
    begun, bar = time.monotonic(), tqdm(total=round(seconds), desc="training", unit="s")
    while (spent := time.monotonic() - begun) < seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * max(0.02, 1 - spent / seconds)
        # Few long texts beside many short ones: positions up to 2,000 must have been seen, too.
        length = random.choice((LENGTH, LENGTH, LENGTH, LENGTH * BATCH))
        rows = [int(torch.randint(len(data) - length, ())) for _ in range(LENGTH * BATCH // length)]
        batch = torch.stack([data[row : row + length] for row in rows])
        loss = module(input_ids=batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        bar.set_postfix(bits_per_byte=f"{loss.item() / np.log(2):.2f}")
        bar.update(round(spent) - bar.n)
    bar.close()
    module.save_pretrained(folder)


def main() -> None:
    """Speak, train, read, print."""
    parser = argparse.ArgumentParser(description=inspect.cleandoc(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=1.5, help="how long the text model is trained")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    voice = load_model(FOLDER / "lm", dtype="float32")
    sentences = spoken(voice, options.tokens)
    whole = tuple(token for sentence in sentences for token in sentence)
    found = [*measure("voice, a sentence each", voice, sentences), *measure("voice, one text", voice, [whole])]
    known, unknown = library()
    with TemporaryDirectory() as folder:
        train(Path(folder), known, 60 * options.minutes)
        text = load_model(Path(folder), dtype="float32")
        found += measure("text", text, [tuple(unknown[: options.tokens])])
    print(f"{'model':24} {'kept':16} {'tokens':>6} {'bytes a token':>13} {'of 16 bit':>9} {'largest':>8} "
          f"{'mean':>7} {'same':>7}")  # fmt: skip
    for each in found:
        print(
            f"{each.model:24} {each.kept:16} {each.tokens:6} {each.bytes_per_token:13.0f} {each.of_16_bits:9.3f} "
            f"{each.largest:8.3f} {each.mean:7.4f} {each.agreement:7.2%}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
