"""Random numbers without state: number i of a request depends on its seed and i alone."""

from __future__ import annotations

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, splitmix64's increment


def splitmix64(value: int) -> int:
    """Mix 64 bits. Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"."""
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, position: int) -> float:
    """The number for `position` of the output, in [0, 1): 52 bits, so that 1 - u is exact and above 0."""
    key = splitmix64(seed & _MASK)
    return (splitmix64((key + position * _GAMMA) & _MASK) >> 12) * 2.0**-52
