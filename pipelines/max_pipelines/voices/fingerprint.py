"""What tells whether a voice's speech tokens are those of a model: the ids of its codes, and the codec's weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from ..config import Config, SpeechConfig

_BESIDE = ("encoder.safetensors", "aligner.safetensors")  # with others, codes mean what they did


def fingerprint(config: Config, speech: SpeechConfig) -> str:
    """32 hex digits. A folder counts by what is in its files, a hub id by its name. OSError if a file is unreadable."""
    layout = speech.spoken.layout
    ids = (layout.audio_base, layout.codebook_size, layout.slots, layout.offsets, layout.delays)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(msgspec.json.encode((ids, config.codec.kind, dict(config.codec.options))))
    where = Path(config.codec.location)
    if not where.is_dir():
        digest.update(str(config.codec.location).encode())
    for path in sorted(where.glob("*")):
        if path.name == "config.json" or (path.suffix in (".safetensors", ".bin") and path.name not in _BESIDE):
            with open(path, "rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
