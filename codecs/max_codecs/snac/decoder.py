"""The SNAC decoder, symmetric as published or causal: the same parameters under the same names.

A state dict of `snac.layers.Decoder` loads into `Decoder`, and the other way round. What differs from the package:
padding is explicit, so that one flag makes every layer causal; noise is an argument, so that the caller decides
where it comes from; and there is no attention, which cannot be streamed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from ..streaming.stage import NoiseSource

KERNEL = 7  # of every convolution that is not pointwise
DILATIONS = (1, 3, 9)  # of a block's residual units


def fresh_noise(layer: int, first: int, like: Tensor) -> Tensor:
    """Noise as the package draws it, new at every call: for training."""
    return torch.randn(like.shape[0], 1, like.shape[-1], device=like.device, dtype=like.dtype)


class Conv1d(nn.Conv1d):
    """A convolution that keeps the length: padded on both sides alike, or on the left alone when causal."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        causal: bool,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, dilation=dilation, groups=groups, bias=bias)
        reach = (kernel_size - 1) * dilation
        self.left = reach if causal else reach // 2
        self.right = reach - self.left

    def forward(self, x: Tensor) -> Tensor:
        if self.left or self.right:
            x = functional.pad(x, (self.left, self.right))
        return functional.conv1d(x, self.weight, self.bias, dilation=self.dilation, groups=self.groups)


class ConvTranspose1d(nn.ConvTranspose1d):
    """Upsampling by `stride` with a kernel of twice that, so that each input reaches two strides of output.

    The unpadded result has `stride` samples too many. Causal: all of them are cut at the right, so that sample t
    depends on the inputs floor(t / stride) - 1 and floor(t / stride). Otherwise cut as the package pads.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, causal: bool) -> None:
        super().__init__(in_channels, out_channels, 2 * stride, stride=stride)
        self.left = 0 if causal else math.ceil(stride / 2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        full = functional.conv_transpose1d(x, self.weight, self.bias, stride=self.stride)
        return full[..., self.left : self.left + x.shape[-1] * self.stride[0]]


class Snake1d(nn.Module):
    """x + sin²(alpha x) / alpha, with one alpha per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        sine = torch.sin(self.alpha * x)
        return x + (self.alpha + 1e-9).reciprocal() * (sine * sine)


class ResidualUnit(nn.Module):
    """x + a dilated convolution and a pointwise one."""

    def __init__(self, channels: int, dilation: int, *, causal: bool, groups: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            Snake1d(channels),
            weight_norm(Conv1d(channels, channels, KERNEL, causal=causal, dilation=dilation, groups=groups)),
            Snake1d(channels),
            weight_norm(Conv1d(channels, channels, 1, causal=causal)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y


class NoiseBlock(nn.Module):
    """x + noise * linear(x): one normal per time step, shared by the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = weight_norm(Conv1d(channels, channels, 1, causal=True, bias=False))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        scale: Tensor = self.linear(x)
        return x + noise * scale


class DecoderBlock(nn.Module):
    """Snake, upsampling by `stride`, a noise block if wanted, three residual units."""

    def __init__(self, input_dim: int, output_dim: int, stride: int, *, noise: bool, groups: int, causal: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            Snake1d(input_dim),
            weight_norm(ConvTranspose1d(input_dim, output_dim, stride, causal=causal)),
        ]
        if noise:
            layers.append(NoiseBlock(output_dim))
        for dilation in DILATIONS:
            layers.append(ResidualUnit(output_dim, dilation, causal=causal, groups=groups))
        self.block = nn.Sequential(*layers)

    def forward(self, x: Tensor, noise: NoiseSource | None, layer: int) -> Tensor:
        for module in self.block:
            if not isinstance(module, NoiseBlock):
                x = module(x)
            elif noise is not None:
                x = module(x, noise(layer, 0, x))
        return x


class Decoder(nn.Module):
    """Latents float[batch, input_channel, T] to samples float[batch, d_out, T * prod(rates)].

    Arguments as in `snac.layers.Decoder`, and `causal`. ValueError for attention. The whole sequence at once,
    differentiable, weight norm kept: for training, and the reference that `streaming` is tested against.
    """

    def __init__(
        self,
        input_channel: int,
        channels: int,
        rates: Sequence[int],
        noise: bool = False,
        depthwise: bool = False,
        attn_window_size: int | None = None,
        d_out: int = 1,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if attn_window_size is not None:
            raise ValueError(
                f"attn_window_size={attn_window_size}: a decoder with attention cannot be streamed; it must be None"
            )
        if not rates or channels % 2 ** len(rates):
            raise ValueError(f"channels={channels} must halve once for each of rates={list(rates)}")
        self.causal = causal
        layers = _entry(input_channel, channels, depthwise, causal)
        for i, stride in enumerate(rates):
            width = channels // 2 ** (i + 1)
            groups = width if depthwise else 1
            layers.append(DecoderBlock(2 * width, width, stride, noise=noise, groups=groups, causal=causal))
        layers += [Snake1d(width), weight_norm(Conv1d(width, d_out, KERNEL, causal=causal)), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, noise: NoiseSource | None = None) -> Tensor:
        """Without a noise source the noise blocks are left out; `fresh_noise` draws as the package does."""
        layer = 0
        for module in self.model:
            if isinstance(module, DecoderBlock):
                x = module(x, noise, layer)
                layer += 1
            else:
                x = module(x)
        return x


def _entry(input_channel: int, channels: int, depthwise: bool, causal: bool) -> list[nn.Module]:
    if not depthwise:
        return [weight_norm(Conv1d(input_channel, channels, KERNEL, causal=causal))]
    return [
        weight_norm(Conv1d(input_channel, input_channel, KERNEL, causal=causal, groups=input_channel)),
        weight_norm(Conv1d(input_channel, channels, 1, causal=causal)),
    ]
