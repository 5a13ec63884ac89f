"""Random Llama checkpoints. `python -m max_pipelines.bench.text.shapes NAME DTYPE FOLDER` writes one."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides how much work a token of a Llama is. The output layer is the embedding."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    context: int = 4096

    @property
    def parameters(self) -> int:
        """How many numbers there are to train."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + self.hidden + self.vocabulary * self.hidden


SHAPES = {
    "tiny": Shape(64, 2, 2, 1, 32, 128, 512),  # seconds: for trying the benchmark itself
    "small": Shape(256, 6, 4, 2, 64, 640, 16_384),  # 8.3 M
    "mid": Shape(1024, 16, 16, 8, 64, 2688, 16_384),  # 199 M
    "llama-3b": Shape(3072, 28, 24, 8, 128, 8192, 128_256),  # 3.2 G: Llama-3.2-3B, and so Orpheus
}


def write_checkpoint(shape: Shape, dtype: str, folder: Path) -> None:
    """Config, random weights and a tokenizer; the same shape gives the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        dtype=dtype,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))  # so that 3 G weights never are float32
    try:
        module = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    module.save_pretrained(folder)
    tokenizer = _tokenizer(shape.vocabulary)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)  # type: ignore[no-untyped-call]


def _tokenizer(vocabulary: int) -> Tokenizer:
    """Byte-level, with a text for each id: one byte, then two, then three. It merges nothing."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    texts = ("".join(parts) for length in (1, 2, 3) for parts in product(alphabet, repeat=length))
    tokenizer = Tokenizer(BPE({text: token for token, text in enumerate(islice(texts, vocabulary))}, []))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    return tokenizer


if __name__ == "__main__":
    write_checkpoint(SHAPES[sys.argv[1]], sys.argv[2], Path(sys.argv[3]))
