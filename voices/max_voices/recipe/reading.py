"""What a voice is held against: its teacher, who reads the same texts."""

from collections.abc import Iterator, Sequence

import numpy as np

from max_voices.hearing.spectra import Sound
from max_voices.recipe.data import trimmed
from max_voices.recipe.flite import Teacher


def read_aloud(speaker: str, texts: Sequence[str]) -> Iterator[Sound]:
    """Each text (spelled already) as flite's `speaker` says it, without most of its outer silence, at 16 kHz.

    ValueError for a speaker that flite does not have, FliteUnavailable where it is not installed; both at once.
    """
    teacher = Teacher(speaker)
    return (trimmed(teacher.speak(text))[0].astype(np.float32) / np.float32(32768) for text in texts)
