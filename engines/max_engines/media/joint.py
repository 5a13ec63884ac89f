"""Which tokens of a prompt see others behind them, as an image's do in some models."""

from __future__ import annotations

import torch
from torch import Tensor


def joint_runs(told: object, window: int | None) -> tuple[tuple[int, int], ...]:
    """The runs of tokens that see others behind them, by the masks that a language model is given.

    ValueError for masks that say anything else than that, and a layer's window.
    """
    masks = dict(told) if isinstance(told, dict) else {}
    full = _seen(masks.pop("full_attention", None))
    if full is None:
        return ()
    places = torch.arange(len(full), device=full.device)
    ends: list[int] = torch.where(full, places, -1).amax(1).tolist()
    found: list[tuple[int, int]] = []
    for first, end in enumerate(ends):
        if end > first and (not found or first >= found[-1][1]):
            found.append((first, end + 1))
    after = places[:, None] - places
    expected = after >= 0
    for first, last in found:
        expected[first:last, :last] = True
    windowed = expected if window is None else expected & (after < window)
    others = [_seen(mask) for mask in masks.values()]
    if not all(seen is None or torch.equal(seen, windowed) for seen in others) or not torch.equal(full, expected):
        raise ValueError("SequenceStart.media: the engine knows no mask like that of this model's tokens")
    return tuple(found)


def _seen(mask: object) -> Tensor | None:
    """Which keys each query sees, bool `[tokens, tokens]`; None for those before it alone."""
    if not isinstance(mask, Tensor):
        return None
    return mask[0, 0] if mask.dtype == torch.bool else mask[0, 0] == 0
