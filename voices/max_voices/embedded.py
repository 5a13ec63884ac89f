"""The embedded voice: where its weights lie, and what serving must know of them (``voice.json``)."""

from pathlib import Path

import msgspec

from max_codecs.format import SpeechFormat

FOLDER = Path(__file__).parent / "embedded"
"""``lm/`` for the token model, ``codec/`` for the decoder, ``voice.json``, and ``MODEL_CARD.md``."""


def load_voice(folder: Path = FOLDER) -> SpeechFormat:
    """Ids, bounds and sampling that belong to the weights in ``folder``.

    Raises ``FileNotFoundError``, or ``ValueError`` naming the file and the key that is wrong.
    """
    path = folder / "voice.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=SpeechFormat)
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error
