"""DAC as an `AudioCodec`: convolution states, and a look-ahead of a few frames, since every layer is symmetric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import DacModel
from transformers.models.dac.modeling_dac import DacDecoder, DacDecoderBlock, DacResidualUnit, DacVectorQuantize

from max_interfaces.errors import ConfigError

from ..slots import Slot
from ..streaming.activations import Snake, Tanh
from ..streaming.codec import CodecShape, StreamingCodec
from ..streaming.convolution import convolution
from ..streaming.decoder import StreamingDecoder
from ..streaming.padding import Padding
from ..streaming.residual import Residual
from ..streaming.stage import Stage
from ..streaming.upsampling import Upsample
from .codebooks import Group, ResidualCodebooks, used
from .loading import load_pretrained, members


def load_codec(source: str | Path, *, device: str = "cpu", slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec in a folder or of a hub id; `slots` is the order of a frame's codes, by default coarse to fine.

    With an odd upsampling ratio, as at 24 kHz, a sound ends some samples before its last frame does: so the published
    decoder has it. ConfigError if it cannot be loaded.
    """
    model = load_pretrained(DacModel, "dac", source, device)
    try:
        return dac_codec(model, slots)
    except ValueError as problem:
        raise ConfigError(f"{source}: {problem}") from problem


def dac_codec(model: DacModel, slots: Sequence[Slot] | None = None) -> StreamingCodec:
    """The codec of a loaded model. ValueError for slots that cannot be."""
    config = model.config
    books = members(model.quantizer.quantizers, DacVectorQuantize)
    order = used(slots, len(books))
    groups = [Group([book.codebook.weight], book.out_proj) for book in books[: len(order)]]
    shape = CodecShape(config.sampling_rate, math.prod(config.upsampling_ratios), len(order), config.codebook_size)
    decoder = StreamingDecoder(_stages(model.decoder))
    return StreamingCodec(shape, ResidualCodebooks(groups, order), decoder, model.device)


@torch.inference_mode()
def _stages(decoder: DacDecoder) -> list[Stage]:
    stages = [_convolution(decoder.conv1)]
    for block in members(decoder.block, DacDecoderBlock):
        cut = int(block.conv_t1.padding[0])
        stages += [Snake(block.snake1.alpha), Upsample(block.conv_t1, cut, cut)]
        stages += [_residual(unit) for unit in (block.res_unit1, block.res_unit2, block.res_unit3)]
    return [*stages, Snake(decoder.snake1.alpha), _convolution(decoder.conv2), Tanh()]


def _residual(unit: DacResidualUnit) -> Stage:
    way = (Snake(unit.snake1.alpha), _convolution(unit.conv1), Snake(unit.snake2.alpha), _convolution(unit.conv2))
    return Residual(way)


def _convolution(conv: nn.Conv1d) -> Stage:
    """Padded with zeros, alike on both sides."""
    side = int(conv.padding[0])
    return convolution(conv, Padding(side, side))
