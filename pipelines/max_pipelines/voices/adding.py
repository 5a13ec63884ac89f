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
    tokens = speech.spoken.layout.ids(encoder.encode(samples))
    if tokens.size > MAX_SPEECH_TOKENS:
        raise ValueError(f"sample: makes {tokens.size} speech tokens, at most {MAX_SPEECH_TOKENS} travel; cut it")
    seconds, created = samples.size / encoder.sample_rate, datetime.now(UTC).isoformat(timespec="seconds")
    about = About(words, folder.fingerprint, created, seconds, consent=consent)
    return folder.add(name, StoredVoice(tokens, about))


def _check_is_new(name: str, speech: SpeechConfig) -> None:
    if any(voice.name == name for voice in speech.spoken.layout.prompt.voices):
        raise ValueError(f"voice name {name!r}: is one of the model's own; choose another")


def _checked_words(transcript: str, speech: SpeechConfig) -> str:
    """The transcript in one line. ValueError for one in which there is nothing to say, or too much."""
    words = " ".join(transcript.split())
    form = speech.spoken
    if not any(map(str.isalnum, read(words, normalized=form.normalizes, spelled=form.spell, tags=form.tags))):
        raise ValueError(f"transcript {transcript[:80]!r}: has nothing that can be spoken; write what the sample says")
    if len(words) > MAX_TRANSCRIPT:
        raise ValueError(f"transcript: has {len(words)} characters, at most {MAX_TRANSCRIPT} are taken")
    return words
