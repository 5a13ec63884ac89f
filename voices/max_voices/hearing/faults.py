"""What can have gone wrong in an utterance: it went on and on, it broke off, or nothing can be heard of it."""

from dataclasses import dataclass

import numpy as np

from max_codecs.sound.silence import AUDIBLE

from .spectra import RATE, Sound

RUNAWAY, CUT = 1.6, 0.6  # times as long as the teacher takes for it
_LEAST = RATE // 50  # samples that can be heard: 20 ms of a click are no word


@dataclass(frozen=True, slots=True)
class Faults:
    """Of one utterance. What is `cut` cannot be known without a teacher, and is False then."""

    runaway: bool
    cut: bool
    empty: bool


def faults(sound: Sound, ended: bool, teacher: Sound | None) -> Faults:
    """Holds a sound at 16 kHz against the teacher's; `ended` says that it came to its end by itself."""
    longest, shortest = (RUNAWAY * teacher.size, CUT * teacher.size) if teacher is not None else (np.inf, 0)
    heard = int((np.abs(sound) > AUDIBLE).sum())
    return Faults(not ended or sound.size > longest, sound.size < shortest, heard < _LEAST)
