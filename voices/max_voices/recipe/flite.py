"""The teacher: Debian's flite, called in this process through ctypes (no compiler is needed).

One call yields the sound and what was said in it: phones, their stress, the word of each phone and
the time at which each ends.
"""

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

SAMPLE_RATE = 16_000  # of every voice in Debian's package but the 8 kHz kal
PAUSE = "pau"
SPEAKERS = ("slt", "rms", "awb", "kal16")


class FliteUnavailable(RuntimeError):
    """The shared libraries are not installed (Debian: ``apt install libflite1``)."""


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone as spoken: ``token`` is its name, vowels with their stress digit (``ae1``, ``ax0``)."""

    token: str
    end: float  # seconds from the first sample
    word: int  # number of the whitespace-separated word it belongs to; -1 for a pause


@dataclass(frozen=True, slots=True)
class Utterance:
    """What the teacher said: ``samples`` int16[num_samples] at 16 kHz, and its phones in order."""

    samples: npt.NDArray[np.int16]
    phones: tuple[Phone, ...]


class _Wave(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    ]


_VOID, _TEXT = ctypes.c_void_p, ctypes.c_char_p
_SIGNATURES = {
    "flite_synth_text": (_VOID, (_TEXT, _VOID)),
    "new_utterance": (_VOID, ()),
    "utt_set_input_text": (ctypes.c_int, (_VOID, _TEXT)),
    "utt_init": (_VOID, (_VOID, _VOID)),
    "utt_synth_text2segs": (_VOID, (_VOID,)),
    "utt_relation": (_VOID, (_VOID, _TEXT)),
    "relation_head": (_VOID, (_VOID,)),
    "item_next": (_VOID, (_VOID,)),
    "item_parent": (_VOID, (_VOID,)),
    "item_as": (_VOID, (_VOID, _TEXT)),
    "item_feat_string": (_TEXT, (_VOID, _TEXT)),
    "item_feat_float": (ctypes.c_float, (_VOID, _TEXT)),
    "utt_wave": (_VOID, (_VOID,)),
    "delete_utterance": (None, (_VOID,)),
}


def _load(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(f"{name}.so.1", mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise FliteUnavailable(f"{name}.so.1 not found; on Debian: apt install libflite1") from error


@cache
def _library() -> ctypes.CDLL:
    library = _load("libflite")
    for name in ("libflite_usenglish", "libflite_cmulex"):
        _load(name)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.flite_init()
    return library


class Teacher:
    """One flite voice. Raises ``FliteUnavailable`` where the library is missing."""

    def __init__(self, speaker: str = "slt") -> None:
        if speaker not in SPEAKERS:
            raise ValueError(f"speaker must be one of {', '.join(SPEAKERS)}, got {speaker!r}")
        self._lib = _library()
        register = getattr(_load(f"libflite_cmu_us_{speaker}"), f"register_cmu_us_{speaker}")
        register.restype, register.argtypes = _VOID, (_VOID,)
        self._voice = register(None)

    def speak(self, text: str) -> Utterance:
        """Say ``text`` (ASCII). The phones carry the word numbers of ``text.split()``."""
        utterance = self._lib.flite_synth_text(text.encode("ascii"), self._voice)
        try:
            wave = ctypes.cast(self._lib.utt_wave(utterance), ctypes.POINTER(_Wave)).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
            return Utterance(samples, tuple(self._phones(utterance, times=True)))
        finally:
            self._lib.delete_utterance(utterance)

    def phones(self, text: str) -> tuple[Phone, ...]:
        """The phones alone, without times (all 0.0): no sound is made, so this is far faster."""
        utterance = self._lib.utt_init(self._lib.new_utterance(), self._voice)
        self._lib.utt_set_input_text(utterance, text.encode("ascii"))
        try:
            self._lib.utt_synth_text2segs(utterance)
            return tuple(self._phones(utterance, times=False))
        finally:
            self._lib.delete_utterance(utterance)

    def _phones(self, utterance: int, times: bool) -> list[Phone]:
        lib, phones = self._lib, list[Phone]()
        tokens = self._token_numbers(utterance)
        item = lib.relation_head(lib.utt_relation(utterance, b"Segment"))
        while item:
            name = lib.item_feat_string(item, b"name").decode()
            end = float(lib.item_feat_float(item, b"end")) if times else 0.0
            structure = lib.item_as(item, b"SylStructure")
            if structure:
                syllable = lib.item_parent(structure)
                token = lib.item_parent(lib.item_as(lib.item_parent(syllable), b"Token"))
                stress = lib.item_feat_string(syllable, b"stress").decode() if name[0] in "aeiou" else ""
                phones.append(Phone(name + stress, end, tokens[token]))
            else:
                phones.append(Phone(PAUSE, end, -1))
            item = lib.item_next(item)
        return phones

    def _token_numbers(self, utterance: int) -> dict[int, int]:
        """Addresses of flite's tokens (whitespace-separated words) → their numbers."""
        item, numbers = self._lib.relation_head(self._lib.utt_relation(utterance, b"Token")), dict[int, int]()
        while item:
            numbers[item] = len(numbers)
            item = self._lib.item_next(item)
        return numbers
