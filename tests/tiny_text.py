"""A whole text model with tiny random weights, in a folder, as YAML names it: what the text road is tested with."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from max_pipelines.config import Config, EngineConfig, ModelConfig, PipelineConfig, WorkersConfig

PAD, BEGIN, END, TURN, START, THINK, UNTHINK = range(7)
SPECIAL = ("<pad>", "<s>", "</s>", "<|turn|>", "<|start|>")
THINKING = ("<think>", "</think>")  # added, and not flagged as special: as Qwen3 has them
CONTEXT = 512
CORPUS = (
    "the quick brown fox jumps over the lazy dog and goes home, where it is warm. " * 3,
    'a list of words: {"name": "fox", "age": 3, "tags": ["red", "quick"]} and numbers 0123456789. ' * 3,
    "naïve café, Grüße, 中文字符, emoji 🦊🎉 and more. " * 3,
)
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if tools %}{{ '<|start|>tools\\n' + tools | tojson + '<|turn|>\\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|start|>' + message.role + '\\n' + message.content }}"
    "{% if not loop.last or not continue_final %}{{ '<|turn|>\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\\n' }}{% endif %}"
)


def make_tokenizer(vocab_size: int = 400) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with a few merges, special tokens and a chat template."""
    inner = Tokenizer(BPE())
    inner.pre_tokenizer = ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *THINKING],
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    inner.add_tokens([AddedToken(name, special=False, normalized=False) for name in THINKING])
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_tiny_text(
    folder: Path,
    *,
    transport: Literal["process", "thread"] = "process",
    count: int = 1,
    max_batch: int = 16,
    head_dim: int = 16,
) -> Config:
    """Write model and tokenizer; return the config that serves them. The same weights each time."""
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 8,  # models are often padded: these ids have no text
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=CONTEXT,
        bos_token_id=BEGIN,
        eos_token_id=END,
        pad_token_id=PAD,
        initializer_range=0.3,  # scores far apart, so that the likeliest token is no matter of rounding
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(folder), dtype="float32"),
        pipeline=PipelineConfig(kind="text"),
        engine=EngineConfig(max_batch=max_batch),
        workers=WorkersConfig(count=count, transport=transport),
    )
