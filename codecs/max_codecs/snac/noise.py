"""Noise by counter: the normal for (stream seed, layer, absolute sample) is a hash of the three.

So it is the same for any chunking, in any batch, on any device, and after a rebuild in another process, which a
generator with a state is not. The hash is exact everywhere; the last bits of logarithm and cosine are the device's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # splitmix64 (Steele, Lea, Flood 2014): 2^64 / golden ratio, and its two multipliers
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


class CounterNoise:
    """A `NoiseSource` for one stream. `seed` is any int; only its low 64 bits count."""

    def __init__(self, seed: int) -> None:
        self._seed = seed & _MASK

    def __call__(self, layer: int, first: int, like: Tensor) -> Tensor:
        """Standard normals float[batch, 1, T], the same for every row; see `NoiseSource`."""
        length = like.shape[-1]
        noise = normals(self._seed, layer, first, length, like.device).to(like.dtype)
        return noise.expand(like.shape[0], 1, length)


def normals(seed: int, layer: int, first: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Standard normals float32[count] for the absolute samples `first`, `first + 1`, … of a noise layer."""
    key = _mix(_mix(seed & _MASK) ^ (layer + 1))
    index = torch.arange(first + 1, first + 1 + count, dtype=torch.int64, device=device)
    bits = _mix_tensor(index * _signed(_GOLDEN) + _signed(key))
    # Box-Muller on two halves of 24 bits, what a float32 holds exactly; the first is in (0, 1] for the logarithm.
    radius = (((bits >> 40) & 0xFFFFFF) + 1).to(torch.float32) * 2.0**-24
    angle = (bits & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2.0**-24)
    return (-2.0 * radius.log()).sqrt_() * angle.cos_()


def _mix(z: int) -> int:
    z = (z + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def _mix_tensor(z: Tensor) -> Tensor:
    # int64 wraps like uint64, but shifts its sign in: the mask takes it out again.
    z = (z ^ ((z >> 30) & (2**34 - 1))) * _signed(_MIX_1)
    z = (z ^ ((z >> 27) & (2**37 - 1))) * _signed(_MIX_2)
    return z ^ ((z >> 31) & (2**33 - 1))


def _signed(value: int) -> int:
    """The int64 with the bits of a uint64."""
    return value - 2**64 if value >= 2**63 else value
