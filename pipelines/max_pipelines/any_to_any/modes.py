"""What a model is to give."""

from __future__ import annotations

from collections.abc import Collection

MODES = ("text", "audio", "image")


def checked_mode(mode: str | None, modalities: Collection[str], why: str | None = None) -> str:
    """The mode, text if none is named. ValueError for one that is none, or that the model does not have, and `why`."""
    if mode is None:
        return "text"
    if mode not in MODES:
        raise ValueError(f"generation_mode = {mode!r:.80}: must be one of {', '.join(MODES)}")
    if mode not in modalities:
        reason = f"; {why}" if why and mode == "audio" else ""
        raise ValueError(f"generation_mode = {mode!r}: this model gives {' and '.join(modalities)}{reason}")
    return mode
