"""A voice as a file: a safetensors file with the sample's speech tokens, and JSON that says what they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from max_interfaces.audio import MAX_SPEECH_TOKENS
from max_interfaces.bounds import TOKEN_ID_MAX, ShortText

SUFFIX = ".safetensors"
MAX_TRANSCRIPT = 1000  # characters: nobody says more in half a minute
MAX_BYTES = 2**20  # twice what the longest one has
_TOKENS, _ABOUT = "speech_tokens", "maxpipe_voice"


class About(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of a voice: the `transcript` of its sample, of so many `seconds`, `created` at a time (ISO 8601).

    `consent` is what its owner is told to have agreed to. `fingerprint` is that of the codec and layout whose tokens
    these are; a `version` we do not know is not read.
    """

    transcript: ShortText
    fingerprint: Annotated[str, Meta(pattern=r"^[0-9a-f]{32}$", max_length=32)]
    created: Annotated[str, Meta(max_length=64)]
    seconds: Annotated[float, Meta(ge=0, le=86_400)]
    version: Literal[1] = 1
    consent: ShortText = ""


class _Header(msgspec.Struct, rename={"metadata": "__metadata__"}):
    metadata: Annotated[dict[str, str], Meta(max_length=64)] = {}


@dataclass(frozen=True, slots=True, eq=False)
class StoredVoice:
    """The speech tokens of a sample, int64[n], and what is known of it."""

    tokens: NDArray[np.int64]
    about: About

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        return save({_TOKENS: self.tokens}, {_ABOUT: msgspec.json.encode(self.about).decode()})


def read_about(path: Path) -> About:
    """What a file says of its voice. ValueError, naming the file, if it is none."""
    return _about(path, _bytes(path))


def read_voice(path: Path) -> StoredVoice:
    """The voice in a file. ValueError, naming the file, if it is none; FileNotFoundError if it is not there."""
    data = _bytes(path)
    about = _about(path, data)
    try:
        tokens = load(data)[_TOKENS]
    except (SafetensorError, KeyError, ValueError, TypeError) as problem:
        raise ValueError(f"{path.name}: is no voice file: {problem}") from problem
    if tokens.dtype != np.int64 or tokens.ndim != 1 or not 0 < tokens.size <= MAX_SPEECH_TOKENS:
        raise ValueError(
            f"{path.name}: {_TOKENS} are {tokens.dtype}{list(tokens.shape)}: must be int64, 1 to {MAX_SPEECH_TOKENS}"
        )
    if not 0 <= int(tokens.min()) <= int(tokens.max()) <= TOKEN_ID_MAX:
        raise ValueError(f"{path.name}: {_TOKENS} must be 0 to {TOKEN_ID_MAX}")
    return StoredVoice(tokens, about)


def _bytes(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise ValueError(f"{path.name}: cannot be read ({problem.strerror})") from problem
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path.name}: has more than {MAX_BYTES} bytes, so it is no voice file")
    return data


def _about(path: Path, data: bytes) -> About:
    """The metadata in front of the tensors."""
    header = data[8 : 8 + int.from_bytes(data[:8], "little")]
    try:
        return msgspec.json.decode(msgspec.json.decode(header, type=_Header).metadata[_ABOUT], type=About)
    except (msgspec.MsgspecError, ValueError, KeyError, RecursionError) as problem:
        raise ValueError(f"{path.name}: is no voice file: {problem or type(problem).__name__}") from problem
