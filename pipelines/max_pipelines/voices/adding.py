"""Adding a voice: a recording and its words become a file, whose name requests can give."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from max_codecs.sound.loudness import TARGET_LUFS
from max_interfaces.audio import MAX_SPEECH_TOKENS
from max_voices.text import read

from ..codecs import speech_of
from ..config import Config, SpeechConfig
from ..encoders import build_encoder
from ..media.access import Access
from ..media.items import SoundItem
from .file import MAX_TRANSCRIPT, About, StoredVoice
from .folder import check_name, folder_of
from .sample import clean_sample


def add_voice(config: Config, name: str, item: SoundItem, transcript: str, access: Access, consent: str = "") -> Path:
    """Encode a recording of somebody who says `transcript`, and keep it under `name`, with a note of their `consent`.

    Returns the file.
    ConfigError for a model that can take no samples; ValueError for a name, a recording or a transcript that cannot be
    used, before anything is written.
    """
    speech = speech_of(config)
    check_name(name)
    _check_is_new(name, speech)
    words = _checked_words(transcript, speech)
    if len(consent) > MAX_TRANSCRIPT:
        raise ValueError(f"consent: has {len(consent)} characters, at most {MAX_TRANSCRIPT} are taken")
    folder = folder_of(config)
    encoder = build_encoder(config)
    target = TARGET_LUFS - speech.spoken.layout.prompt.default_gain_db  # which its sound will be raised by
    samples = clean_sample(item, encoder.sample_rate, speech.voices, target, access)
    frames = encoder.encode(samples)
    seconds = samples.size / encoder.sample_rate
    _check_length(len(frames), seconds, speech)
    tokens = speech.spoken.layout.ids(frames)
    if tokens.size > MAX_SPEECH_TOKENS:
        raise ValueError(f"sample: makes {tokens.size} speech tokens, at most {MAX_SPEECH_TOKENS} travel; cut it")
    created = datetime.now(UTC).isoformat(timespec="seconds")
    about = About(words, folder.fingerprint, created, seconds, consent=consent)
    return folder.add(name, StoredVoice(tokens, about))


def _check_is_new(name: str, speech: SpeechConfig) -> None:
    if any(voice.name.casefold() == name.casefold() for voice in speech.spoken.layout.prompt.voices):
        raise ValueError(f"voice name {name!r}: is one of the model's own; choose another")


def _check_length(frames: int, seconds: float, speech: SpeechConfig) -> None:
    form = speech.spoken.layout.prompt.reference
    if form is not None and form.max_frames is not None and frames > form.max_frames:
        most = seconds * form.max_frames / frames
        what = f"this model goes on from {most:.1f} s at most; cut it, with its transcript"
        raise ValueError(f"sample: has {seconds:.1f} s of sound; {what}")


def _checked_words(transcript: str, speech: SpeechConfig) -> str:
    """The transcript in one line. ValueError for one in which there is nothing to say, or too much."""
    words = " ".join(transcript.split())
    form = speech.spoken
    said = read(words, normalized=form.normalizes, spelled=form.spell, tags=form.tags)
    if not any(map(str.isalnum, said)):
        raise ValueError(f"transcript {transcript[:80]!r}: has nothing that can be spoken; write what the sample says")
    if max(len(words), len(said)) > MAX_TRANSCRIPT:
        what = f"{len(words)} characters, and {len(said)} when written out"
        raise ValueError(f"transcript: has {what}; at most {MAX_TRANSCRIPT} are taken")
    if form.max_words and len(said.split()) > form.max_words:
        what = f"has {len(said.split())} words when written out"
        raise ValueError(f"transcript: {what}; this model takes {form.max_words} at most, of a shorter sample")
    return words
