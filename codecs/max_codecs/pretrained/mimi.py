"""Mimi as an `AudioCodec`: a KV cache of its decoder's transformer, and convolution states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import MimiModel
from transformers.models.mimi.modeling_mimi import (
    MimiConvTranspose1d,
    MimiDecoderModel,
    MimiRotaryEmbedding,
    MimiTransformerLayer,
    MimiVectorQuantization,
)

from max_interfaces.errors import ConfigError

from ..slots import Slot
from ..streaming.attention import Attention, Heads, Layer
from ..streaming.codec import CodecShape, StreamingCodec
from ..streaming.decoder import StreamingDecoder
from ..streaming.stage import Stage
from .codebooks import Group, ResidualCodebooks, used
from .loading import load_pretrained, members
from .seanet import stage_of, stages_of


def load_codec(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec in a folder or of a hub id; `slots` is the order of a frame's codes, by default coarse to fine.

    A layout with fewer slots uses the first codebooks alone, as Moshi uses 8 of 32. ConfigError if it cannot be loaded
    or streamed.
    """
    model = load_pretrained(MimiModel, "mimi", source, device)
    try:
        return mimi_codec(model, slots)
    except ValueError as problem:
        raise ConfigError(f"{source}: {problem}") from problem


def mimi_codec(model: MimiModel, slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec of a loaded model. ValueError for settings or slots that cannot be."""
    config, decoder = model.config, model.decoder
    if config.audio_channels != 1:
        raise ValueError(f"audio_channels={config.audio_channels}: must be 1, speech is mono")
    if decoder is None or decoder.upsample is None:
        raise ValueError("the model has no decoder with an upsampling layer")
    order = used(slots, config.num_quantizers)
    stages = _stages(decoder, decoder.upsample)
    hop = math.prod(stage.rate for stage in stages)
    shape = CodecShape(config.sampling_rate, hop, len(order), config.codebook_size)
    quantizer = ResidualCodebooks(_groups(model, len(order)), order)
    return StreamingCodec(shape, quantizer, StreamingDecoder(stages), model.device)


def _groups(model: MimiModel, count: int) -> list[Group]:
    """The semantic codebooks, and as many acoustic ones as `count` leaves."""
    groups: list[Group] = []
    parts = (model.quantizer.semantic_residual_vector_quantizer, model.quantizer.acoustic_residual_vector_quantizer)
    for part in parts:
        tables = [layer.codebook.embed for layer in members(part.layers, MimiVectorQuantization)][:count]
        count -= len(tables)
        groups += [Group(tables, part.output_proj)] if tables else []
    return groups


@torch.inference_mode()
def _stages(decoder: MimiDecoderModel, upsample: MimiConvTranspose1d) -> list[Stage]:
    transformer = decoder.decoder_transformer
    attention = [
        _attention(layer, transformer.rotary_emb) for layer in members(transformer.layers, MimiTransformerLayer)
    ]
    return [stage_of(upsample), *attention, *stages_of(decoder.decoder_seanet.layers)]


def _attention(module: MimiTransformerLayer, rotary: MimiRotaryEmbedding) -> Stage:
    attention = module.self_attn
    if rotary.rope_type != "default":
        raise ValueError(f"rope_type={rotary.rope_type!r}: must be default")

    def rotation(positions: Tensor) -> tuple[Tensor, Tensor]:
        cosine, sine = rotary(attention.q_proj.weight, positions[None])
        return cosine[0], sine[0]

    def output(found: Tensor) -> Tensor:
        scaled: Tensor = module.self_attn_layer_scale(attention.o_proj(found))
        return scaled

    def feed_forward(x: Tensor) -> Tensor:
        scaled: Tensor = module.mlp_layer_scale(module.mlp(module.post_attention_layernorm(x)))
        return scaled

    width = attention.q_proj.out_features // attention.num_heads
    heads = Heads(attention.num_heads, attention.num_key_value_heads, width)
    layer = Layer(
        heads, attention.q_proj, attention.k_proj, attention.v_proj, output, feed_forward,
        module.input_layernorm, rotation,
    )  # fmt: skip
    return Attention(layer, attention.sliding_window, attention.q_proj.weight.detach())
