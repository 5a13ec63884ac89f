"""Figures by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Figures: TypeAlias = dict[str, float]


def spread(name: str, seconds: Sequence[float], percentiles: Sequence[int] = (50, 99)) -> Figures:
    """`name.p50_ms` and so on."""
    return {f"{name}.p{p}_ms": float(np.percentile(seconds, p)) * 1000 for p in percentiles}
