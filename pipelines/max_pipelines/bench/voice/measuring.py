"""`maxpipe bench voice`, second half: what is heard of an utterance, and what all utterances of a voice come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from tqdm import tqdm

from max_codecs.sound.loudness import loudness
from max_codecs.sound.silence import quiet_before
from max_voices.hearing.distance import mel_cepstral_distance
from max_voices.hearing.faults import Faults, faults
from max_voices.hearing.profile import Profile, nearest, profile, spectral_distance
from max_voices.hearing.spectra import RATE, Sound
from max_voices.recipe.flite import FliteUnavailable
from max_voices.recipe.judge import Hearing, word_error_rate
from max_voices.recipe.reading import read_aloud

from ..speech import Run
from .report import VoiceFigures
from .speaking import Said, Spoken


class Judge(Protocol):
    """Who writes down what is said; `max_voices.recipe.judge.Judge`, for one."""

    def hear(self, said: str, samples: Sound) -> Hearing:
        """What is heard in samples at 16 kHz, in which something was said."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A sentence as it was said, at 16 kHz, and what was heard of it. `distance_db` is to the teacher's, if known."""

    sound: Sound
    hearing: Hearing
    faults: Faults
    distance_db: float | None

    @property
    def lead_ms(self) -> float:
        """Of silence before the first sample that can be heard; all of it if there is none."""
        return 1000 * quiet_before(self.sound) / RATE


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The teacher's sounds of all sentences, and what was heard of them."""

    sounds: tuple[Sound, ...]
    hearings: tuple[Hearing, ...]
    profile: Profile


@dataclass(frozen=True, slots=True, eq=False)
class VoiceSounds:
    """All that was heard of a voice, `rounds` (seeds, sentences); its teacher, or why there is none; and timed runs."""

    voice: str
    rounds: tuple[tuple[Utterance, ...], ...]
    teacher: Reading | None
    without: str
    runs: tuple[Run, ...]

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Of all seeds."""
        return tuple(utterance for utterances in self.rounds for utterance in utterances)

    @property
    def audible(self) -> list[Sound]:
        """The sounds in which there is something to hear."""
        return [utterance.sound for utterance in self.utterances if not utterance.faults.empty]


def listen(judge: Judge, spoken: Spoken) -> VoiceSounds:
    """Hears all that a voice has said, and its teacher if it has one."""
    try:
        reading = read_aloud(spoken.voice, spoken.texts)
    except (ValueError, FliteUnavailable) as problem:
        teacher, without = None, str(problem)
    else:
        teacher, without = _heard_reading(judge, spoken, tuple(reading)), ""
    sounds = teacher.sounds if teacher else [None] * len(spoken.texts)
    with tqdm(total=len(spoken.rounds) * len(sounds), desc=f"{spoken.voice}: heard", leave=False, disable=None) as bar:

        def one(text: str, said: Said, other: Sound | None) -> Utterance:
            bar.update()
            return _utterance(judge, text, said, other)

        rounds = tuple(tuple(map(one, spoken.texts, each, sounds)) for each in spoken.rounds)
    return VoiceSounds(spoken.voice, rounds, teacher, without, spoken.runs)


def _heard_reading(judge: Judge, spoken: Spoken, sounds: tuple[Sound, ...]) -> Reading:
    bar = tqdm(spoken.texts, f"{spoken.voice}: its teacher heard", leave=False, disable=None)
    return Reading(sounds, tuple(map(judge.hear, bar, sounds)), profile(sounds))


def _utterance(judge: Judge, text: str, said: Said, teacher: Sound | None) -> Utterance:
    found = faults(said.sound, said.ended, teacher)
    distance = None
    if teacher is not None and not (found.empty or found.runaway):
        distance = mel_cepstral_distance(said.sound, teacher)
    return Utterance(said.sound, judge.hear(text, said.sound), found, distance)


def profiles(voices: Sequence[VoiceSounds]) -> dict[str, Profile]:
    """What each voice should be like: its teacher, if each has one; else what each is like itself."""
    if all(voice.teacher for voice in voices):
        return {voice.voice: voice.teacher.profile for voice in voices if voice.teacher}
    return {voice.voice: profile(voice.audible) for voice in voices if voice.audible}


def figures_of(voice: VoiceSounds, known: Mapping[str, Profile]) -> VoiceFigures:
    """What a voice comes to among those whose profiles are known."""
    utterances, teacher, audible = voice.utterances, voice.teacher, voice.audible
    distances = [one.distance_db for one in utterances if one.distance_db is not None]
    own = profile(audible) if audible else None
    levels = [level for sound in audible if math.isfinite(level := loudness(sound, RATE))]
    quiet, middle, loud = np.percentile(levels, (10, 50, 90)) if levels else (-math.inf,) * 3
    leads = [one.lead_ms for one in utterances]
    return VoiceFigures(
        voice=voice.voice,
        utterances=len(utterances),
        wer=tuple(word_error_rate([one.hearing for one in each]) for each in voice.rounds),
        runaway=sum(one.faults.runaway for one in utterances),
        cut=sum(one.faults.cut for one in utterances) if teacher else None,
        empty=sum(one.faults.empty for one in utterances),
        pitch_hz=own.pitch_hz if own else math.nan,
        pitch_spread_semitones=own.spread if own else math.nan,
        own=_own(voice, known) if len(known) > 1 else None,
        lead_ms=float(np.median(leads)),
        lead_worst_ms=max(leads),
        loudness_lufs=float(middle),
        loudness_spread_lu=float(loud - quiet) if levels else math.nan,
        ttfa_ms=1000 * float(np.median([run.first for run in voice.runs])),
        audible_ms=1000 * float(np.median([run.audible for run in voice.runs if run.audible] or [math.nan])),
        rtf=sum(run.total for run in voice.runs) / max(sum(run.sound for run in voice.runs), 1 / RATE),
        teacher_wer=word_error_rate(teacher.hearings) if teacher else None,
        teacher_pitch_hz=teacher.profile.pitch_hz if teacher else None,
        distance_db=float(np.mean(distances)) if distances else None,
        spectrum_db=spectral_distance(own, teacher.profile) if own and teacher else None,
        without=voice.without,
    )


def _own(voice: VoiceSounds, known: Mapping[str, Profile]) -> float:
    """The share of all utterances that are most like the voice's own profile; an empty one is like nobody."""
    return sum(nearest(sound, known) == voice.voice for sound in voice.audible) / len(voice.utterances)
