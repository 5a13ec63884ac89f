"""256 texts embedded at once, beside the same one after another, over the whole road.

`python -m benchmarks.embeddings`: a ratio within one run, for an encoder of the size of all-MiniLM (random weights) and
for a tiny one. Short texts are what gains: a step reads all weights, however few tokens it has.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import BertConfig, BertModel

from max_pipelines.client import Client
from max_pipelines.config import Config, ModelConfig, PipelineConfig

TEXTS = 256
WORDS = "the quick brown fox jumps over a lazy dog and goes home where it is warm and quiet".split()  # noqa: SIM905
SIZES = {"tiny (width 64, 2 layers)": (64, 2), "of all-MiniLM's size (width 384, 6 layers)": (384, 6)}
LENGTHS = {"1 to 8 words": (1, 8), "8 to 40 words": (8, 40)}


def main() -> None:
    """Print a line for each size and length."""
    for name, (width, layers) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), width, layers)
            config = Config(
                model=ModelConfig(name="encoder", path=folder), pipeline=PipelineConfig(kind="embeddings"), http=None
            )
            with Client.embedded(config) as client:
                for length, (least, most) in LENGTHS.items():
                    print(f"{name}, {length}: {measured(client, least, most)}")


def make(folder: Path, width: int, layers: int) -> None:
    """A BERT with random weights, and a tokenizer of words."""
    from tests.tiny_text import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def measured(client: Client, least: int, most: int) -> str:
    """Both ways in turn, the best of three each."""
    numbers = random.Random(0)
    texts = [" ".join(numbers.choices(WORDS, k=numbers.randint(least, most))) for _ in range(TEXTS)]
    together = alone = float("inf")
    for _ in tqdm(range(3), leave=False, disable=None):
        begin = time.perf_counter()
        client.embed(texts)
        middle = time.perf_counter()
        for text in texts:
            client.embed([text])
        together, alone = min(together, middle - begin), min(alone, time.perf_counter() - middle)
    return f"at once {together:.2f} s, one by one {alone:.2f} s: {alone / together:.1f} times as fast"


if __name__ == "__main__":
    main()
