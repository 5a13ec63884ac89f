"""One file to look at and to listen to: figures, spectrograms, players. It needs nothing else, and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from max_codecs.pcm import to_s16
from max_codecs.wav import wav_header
from max_voices.hearing.spectra import RATE, Sound

from .measuring import Utterance, VoiceSounds
from .report import MEASURES, VoiceReport
from .spectrogram import spectrogram

SHOWN = 8  # sentences of each voice, of the first seed
WORST = 3  # of them, those that were heard worst
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True, slots=True)
class Track:
    """A sound in the page: who speaks, `data:` URLs of its picture and its sound, and its share of the longest."""

    name: str
    picture: str
    sound: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True)
class Card:
    """A sentence in the page: its words, said and heard, and who says it."""

    words: tuple[tuple[str, str], ...]
    errors: int
    distance_db: float | None
    tracks: tuple[Track, ...]


def page(report: VoiceReport, voices: Sequence[VoiceSounds]) -> str:
    """The document. For each voice the sentences that were heard worst, and others spread over the list."""
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    cards = [(figures, _cards(voice)) for figures, voice in zip(report.voices, voices, strict=True)]
    return template.from_string(TEMPLATE.read_text("utf-8")).render(report=report, measures=MEASURES, voices=cards)


def chosen(utterances: Sequence[Utterance]) -> list[int]:
    """The numbers of those that are shown, in their order."""
    order = sorted(range(len(utterances)), key=lambda number: -utterances[number].hearing.errors)
    worst = [number for number in order[:WORST] if utterances[number].hearing.errors]
    others = [number for number in range(len(utterances)) if number not in worst]
    room = min(SHOWN - len(worst), len(others))
    return sorted(worst + [others[place * len(others) // room] for place in range(room)])


def _cards(voice: VoiceSounds) -> list[Card]:
    utterances, cards = voice.rounds[0], list[Card]()
    for number in chosen(utterances):
        utterance = utterances[number]
        sounds = {voice.voice: utterance.sound}
        if voice.teacher:
            sounds["its teacher"] = voice.teacher.sounds[number]
        longest = max(sound.size for sound in sounds.values())
        tracks = [_track(name, sound, longest) for name, sound in sounds.items() if sound.size]
        heard = utterance.hearing
        cards.append(Card(heard.aligned, heard.errors, utterance.distance_db, tuple(tracks)))
    return cards


def _track(name: str, sound: Sound, longest: int) -> Track:
    wav = wav_header(RATE, 2 * sound.size) + to_s16(sound).tobytes()  # in a FLAC file of ours Chromium cannot seek
    picture, heard = _data("image/png", spectrogram(sound)), _data("audio/wav", wav)
    return Track(name, picture, heard, sound.size / RATE, sound.size / longest)


def _data(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
