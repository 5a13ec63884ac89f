"""A whole speech model with tiny random weights, in a folder, as YAML names it: what the road is tested with."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from max_codecs.constraint import FrameBounds, PhaseBounds
from max_codecs.format import SamplingDefaults, SpeechFormat
from max_codecs.layout import PhoneFormat, SpeechLayout
from max_codecs.prompt import PromptFormat, ReferenceFormat, Voice
from max_codecs.snac.config import AlignerConfig, SnacConfig, StackConfig
from max_codecs.snac.mel_encoder import MelEncoder, Stack
from max_codecs.snac.weights import State
from max_pipelines.config import (
    CodecConfig,
    Config,
    ModelConfig,
    PipelineConfig,
    SpeechConfig,
    VoicesConfig,
    WorkersConfig,
)
from tests.random_snac import SMALL, random_encoder_state, random_state

AUDIO_BASE, CODES = 64, 64
CHARACTERS = " abcdefghijklmnopqrstuvwxyz.,?!'-"
SPECIAL = ("<pad>", "<soh>", "<eot>", "<soa>", "<eos>", "<ann>", "<bob>")
LAYOUT = SpeechLayout(
    audio_base=AUDIO_BASE,
    codebook_size=CODES,
    end_ids=(4,),
    prompt=PromptFormat(
        before_text=(1,), after_text=(2,), speech=(3,), voices=(Voice("ann", (5,)), Voice("bob", (6,)))
    ),
)
REFERENCE = ReferenceFormat(before_text=(1,), after_text=(2,), before_audio=(3,), after_audio=(4,), voice=(0,))
FRAMES = FrameBounds(min_frames=12, max_frames=40)
PHONES = PhoneFormat(phones=((44, 59),), start_of_frames=60, next_clause=61, word_border=62)
PHASES = PhaseBounds(
    min_frames_per_phone=0.5, max_frames=2, max_frames_per_phone=1.0, max_phones=9, min_clauses=2, max_clauses=4
)
ALIGNER = AlignerConfig(StackConfig(width=8, depth=1), first_phone=44, phones=16, pause=44)


def make_tiny_voice(
    folder: Path, *, causal: bool = True, cloning: bool = False, mel: bool = False, timed: bool = False
) -> Config:
    """Write the model, the tokenizer and the codec; return the config that serves them. The same weights each time.

    With `cloning` it takes samples: the codec has its encoder, a `MelEncoder` with `mel`, and added voices lie in the
    folder, too. One that is `timed` writes phones, which its codec tells.
    """
    _write_language_model(folder / "lm")
    config, weights = _mel_codec(folder / "codec") if mel else _snac(cloning)
    _write_codec(folder / "codec", msgspec.structs.replace(config, causal=causal), weights, timed)
    layout = msgspec.structs.replace(LAYOUT, phones=PHONES if timed else None)
    form = SpeechFormat(
        layout, spell=True, max_words=12, frames=FRAMES, phases=PHASES, sampling=SamplingDefaults(0.8, 0.95)
    )
    if cloning:
        prompt = msgspec.structs.replace(LAYOUT.prompt, reference=REFERENCE)
        form = msgspec.structs.replace(form, layout=msgspec.structs.replace(layout, prompt=prompt))
    return Config(
        http=None,
        model=ModelConfig(name="tiny", path=str(folder / "lm"), dtype="float32"),
        pipeline=PipelineConfig(kind="speech"),
        codec=CodecConfig(path=str(folder / "codec")),
        speech=SpeechConfig(format=form, voices=VoicesConfig(folder=str(folder / "voices"), min_sample_s=0.2)),
        workers=WorkersConfig(count=1),
    )


def _write_language_model(folder: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=AUDIO_BASE + 7 * CODES,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
        initializer_range=0.3,  # loud enough that different prompts sound different
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    vocabulary = {name: index for index, name in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<pad>"
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    fast.save_pretrained(folder)


def _snac(encoder: bool) -> tuple[SnacConfig, State]:
    config = msgspec.structs.replace(SMALL, latent_dim=None if encoder else SMALL.latent_dim)
    return config, random_encoder_state(config) if encoder else {}


def _mel_codec(folder: Path) -> tuple[SnacConfig, State]:
    """One whose encoder is a file of its own, which is written; the quantizer's share is returned."""
    size = StackConfig(width=8, depth=1)
    config = msgspec.structs.replace(SMALL, encoder_rates=(4, 4, 8), decoder_rates=(8, 4, 4), mel_encoder=size)
    state = random_encoder_state(config)  # its encoder is not the one
    encoder = MelEncoder(config.sampling_rate, config.hop, config.latent, size.width, size.depth)
    folder.mkdir(parents=True)
    save_file(encoder.half().state_dict(), folder / "encoder.safetensors")
    return config, {name: tensor for name, tensor in state.items() if name.startswith("quantizer.")}


def _write_codec(folder: Path, config: SnacConfig, encoder: State, timed: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = msgspec.structs.replace(config, aligner=ALIGNER if timed else None)
    state = random_state(config) | encoder
    if timed:
        torch.manual_seed(1)
        head = Stack(config.latent, ALIGNER.stack.width, ALIGNER.phones, ALIGNER.stack.depth, causal=True)
        save_file(head.half().state_dict(), folder / "aligner.safetensors")
    (folder / "config.json").write_text(json.dumps(msgspec.to_builtins(config)), encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
