"""Keys and values of 8 or 4 bits: affine quantisation of each token's heads, in groups along the head's width."""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_BYTES = 2


class Packing:
    """Turns vectors of `head_dim` values into rows of bytes, and back.

    A group of values in a row shares a scale and a minimum, both of 16 bits, and each value is minimum + scale * code.
    The scale is rounded up and the minimum down, so that the codes reach every value: none is off by more than half a
    scale. In bfloat16 they are bfloat16, else float16, in which what is beyond ±65504 saturates. A group with a NaN is
    NaN as a whole. Every row depends on its own values alone. A `group` wider than a head is the head.

    ValueError, naming the field of the request, for a head that cannot be cut so.
    """

    def __init__(self, head_dim: int, bits: int, group: int, dtype: torch.dtype) -> None:
        group = min(group, head_dim)
        if head_dim % group:
            raise ValueError(f"SamplingParams.kv_group_size = {group}: must divide the heads' width of {head_dim}")
        if head_dim % 4:
            raise ValueError(f"SamplingParams.kv_bits = {bits}: the heads' width of {head_dim} is no multiple of 4")
        self._bits = bits
        self._group = group
        self._groups = head_dim // group
        self._dtype = dtype
        self._scale_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float16
        self._codes = 2 * SCALE_BYTES * self._groups  # where in a row they begin: behind scales and minimums
        self.row_bytes = self._codes + head_dim * bits // 8

    def pack(self, values: Tensor) -> Tensor:
        """`values` `[..., head_dim]` as uint8 `[..., row_bytes]`."""
        levels = 2**self._bits - 1
        grouped = values.float().reshape(*values.shape[:-1], self._groups, self._group)
        low, high = torch.aminmax(grouped, dim=-1, keepdim=True)
        minimum = self._rounded(low, up=False)
        scale = self._rounded((high - minimum.float()) / levels, up=True)
        step = scale.float()
        step = torch.where(step == 0, 1.0, step)
        codes = ((grouped - minimum.float()) / step).round_().clamp_(0, levels).nan_to_num_(0).to(torch.uint8)
        codes = codes.flatten(-2)
        if self._bits == 4:
            first, second = codes.chunk(2, -1)
            codes = first | second << 4
        scales = torch.cat((scale, minimum), -2).flatten(-2)
        return torch.cat((scales.view(torch.uint8), codes), -1)

    def unpack(self, rows: Tensor) -> Tensor:
        """The values `[..., head_dim]` of `rows` uint8 `[..., row_bytes]`."""
        scales = rows[..., : self._codes].view(self._scale_dtype).float()[..., None]
        scale, minimum = scales.chunk(2, -2)
        codes = rows[..., self._codes :]
        if self._bits == 4:
            codes = torch.cat((codes & 15, codes >> 4), -1)
        values = codes.float().reshape(*codes.shape[:-1], self._groups, self._group)
        return values.mul_(scale).add_(minimum).flatten(-2).to(self._dtype)

    def _rounded(self, values: Tensor, up: bool) -> Tensor:
        """The next 16-bit number that is not less than each value, or not more."""
        most = torch.finfo(self._scale_dtype).max
        values = values.clamp(-most, most)
        near = values.to(self._scale_dtype)
        wrong = near.float() < values if up else near.float() > values
        bits = near.view(torch.int16)  # as whole numbers, positive ones grow with the value, negative ones fall
        away = torch.where((bits >= 0) == up, 1, -1)
        return (bits + away * wrong).to(torch.int16).view(self._scale_dtype)
