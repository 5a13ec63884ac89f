"""A sound as a picture: time to the right, pitch upwards, the louder the lighter."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from max_voices.hearing.spectra import BANDS, Sound, log_mel

SCALE = 2  # pixels for a band and for a frame of 10 ms
_RANGE_DB = 60.0
_COLOURS = ((0, 0, 4), (40, 11, 84), (101, 21, 110), (159, 42, 99), (212, 72, 66), (245, 125, 21), (252, 255, 164))


def spectrogram(sound: Sound) -> bytes:
    """A PNG of a sound at 16 kHz, `SCALE * BANDS` pixels high and 200 for a second wide."""
    mel = log_mel(sound)
    level = np.clip(1 + (mel - mel.max()) / _RANGE_DB, 0, 1)
    picture = Image.fromarray((255 * level.T[::-1]).astype(np.uint8))
    picture = picture.resize((SCALE * len(mel), SCALE * BANDS), Image.Resampling.BICUBIC)
    picture.putpalette(_palette())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _palette() -> bytes:
    """256 colours, from dark to light, evenly between those above."""
    steps = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(np.linspace(0, 1, 256), steps, channel) for channel in zip(*_COLOURS, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8).tobytes()
