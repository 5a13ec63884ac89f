"""What a model is to give."""

from __future__ import annotations

from collections.abc import Collection

MODES = ("text", "audio", "image")


def checked_mode(mode: str | None, modalities: Collection[str]) -> str:
    """The mode, text if none is named. ValueError for one that is none, or that the model does not have."""
    if mode is None:
        return "text"
    if mode not in MODES:
        raise ValueError(f"generation_mode = {mode!r:.80}: must be one of {', '.join(MODES)}")
    if mode not in modalities:
        raise ValueError(f"generation_mode = {mode!r}: this model gives {' and '.join(modalities)}")
    return mode
