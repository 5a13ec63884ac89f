"""A whole CSM of tiny random weights, with a tokenizer and a Mimi, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import CsmConfig, CsmForConditionalGeneration, PreTrainedTokenizerFast

from max_codecs.constraint import FrameBounds
from max_codecs.format import SamplingDefaults, SpeechFormat
from max_pipelines.config import (
    CodecConfig,
    Config,
    EngineConfig,
    ModelConfig,
    PipelineConfig,
    SpeechConfig,
    WorkersConfig,
    load_config,
)
from tests.tiny_codecs import CODES, LEVELS, tiny_mimi

CODEBOOKS = 4
SIZE = CODES + 3  # three codes are no sound, as in published checkpoints
SPECIAL = ("<pad>", "<bos>", "<eos>", "<|AUDIO|>", "<|audio_eos|>")
PAD, BOS, EOS, AUDIO, AUDIO_EOS = range(5)
CHARACTERS = " abcdefghijklmnopqrstuvwxyz.,?!'-[]0123456789"
TEXT = len(SPECIAL) + len(CHARACTERS)
CONTEXT = 256
CONFIGS = Path(__file__).parents[1] / "configs"
LAYERS: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
SCALED = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 0.125, "high_freq_factor": 0.5,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def tiny_csm(**changes: Any) -> CsmForConditionalGeneration:
    """The model, with the same weights each time, its scores far apart."""
    codebooks = changes.pop("num_codebooks", CODEBOOKS)
    levels = max(codebooks, LEVELS)
    config = CsmConfig(
        num_codebooks=codebooks,
        vocab_size=SIZE,
        text_vocab_size=TEXT,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        max_position_embeddings=CONTEXT,
        rope_parameters=SCALED,
        pad_token_id=PAD,
        bos_token_id=BOS,
        audio_token_id=AUDIO,
        audio_eos_token_id=AUDIO_EOS,
        codebook_pad_token_id=SIZE - 1,
        depth_decoder_config={
            "num_codebooks": codebooks,
            "backbone_hidden_size": 64,
            "vocab_size": SIZE,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,  # what is no number in the second one's cache shows in the third
            "max_position_embeddings": codebooks + 1,
            "rope_parameters": SCALED,
            **LAYERS,
        },
        codec_config=tiny_mimi(num_quantizers=levels).config,
        **{"codebook_eos_token_id": 0, **LAYERS, **changes},
    )
    torch.manual_seed(1)
    model = CsmForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if not name.startswith("codec_model.") and weight.dim() > 1:
            weight.data.normal_(0, 0.3)
    model.lm_head.weight.data[CODES:] = 0  # what is no sound is never the likeliest
    model.depth_decoder.codebooks_head.weight.data[:, :, CODES:] = 0
    model.codec_model = tiny_mimi(num_quantizers=levels)
    model.train(False)
    return model


def save_csm(folder: Path, **changes: Any) -> Path:
    """Write it out as it is published."""
    model = tiny_csm(**changes)
    model.save_pretrained(folder)  # type: ignore[no-untyped-call]
    vocabulary = {name: index for index, name in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<pad>"
    )
    fast.add_special_tokens({"additional_special_tokens": [*SPECIAL]})
    fast.save_pretrained(folder)
    return folder


def make_tiny_csm(folder: Path) -> Config:
    """Write the model, the tokenizer and the codec; return what `configs/csm.yaml` would be for them."""
    save_csm(folder / "csm")
    tiny_mimi(num_quantizers=CODEBOOKS).save_pretrained(folder / "mimi")
    speech = load_config(CONFIGS / "csm.yaml").speech
    if speech is None:
        raise ValueError("configs/csm.yaml has no section `speech`")
    published = speech.spoken.layout
    reference = published.prompt.reference
    if reference is None:
        raise ValueError("configs/csm.yaml takes no reference voice")
    turn: dict[str, Any] = {"before_text": (BOS,), "after_text": (EOS,)}
    prompt = msgspec.structs.replace(
        published.prompt, reference=msgspec.structs.replace(reference, after_audio=(AUDIO_EOS,), **turn), **turn
    )
    layout = msgspec.structs.replace(
        published,
        audio_base=TEXT,
        codebook_size=CODES,
        ids_per_slot=SIZE,
        slots=published.slots[:CODEBOOKS],
        end_ids=(AUDIO_EOS,),
        prompt=prompt,
    )
    sampling = SamplingDefaults(0.9, top_k=50, max_new_tokens=60 * CODEBOOKS)
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(folder / "csm"), dtype="float32"),
        pipeline=PipelineConfig(kind="speech"),
        codec=CodecConfig(kind="mimi", path=str(folder / "mimi")),
        speech=SpeechConfig(
            format=SpeechFormat(layout, max_words=20, frames=FrameBounds(max_frames=50), sampling=sampling)
        ),
        engine=EngineConfig(kind="csm", max_batch=8),
        workers=WorkersConfig(transport="thread"),
    )
