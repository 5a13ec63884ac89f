"""`POST /dev/captioned_speech` as Kokoro-FastAPI has it: speech, and when each of its words is heard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator

import msgspec
from starlette.requests import Request
from starlette.types import ASGIApp

from max_interfaces import AudioGenerationOutput, PipelineTask, WordTimestamp

from .face import Face
from .json import encode
from .problems import asked
from .sound import PCM_RATE, Sound, open_sound
from .speech import spoken
from .speech_body import TextFields, check_wordless
from .streaming import Streamed
from .whole import Whole, WholeAnswer

MAX_WHOLE = 10_000  # characters, some ten minutes at 24 kHz: an answer in one piece is held in memory
LINES = "application/x-ndjson"  # Kokoro-FastAPI says application/json, which several lines of it are not


class CaptionedBody(TextFields, frozen=True, kw_only=True):
    """The fields of `POST /v1/audio/speech` that say what is spoken and how. Of its own: `stream` for lines of JSON
    while it is made, and `return_timestamps`, which `word_timestamps` is called here.
    """

    stream: bool = True
    return_timestamps: bool = True

    def check(self) -> None:
        """ValueError for fields that do not go together."""
        check_wordless(self, "return_timestamps asks for them here; leave it out")
        most = self.most_whole
        if not self.stream and len(self.input) > most:
            what = f"without stream {most} at most; set stream to true"
            raise ValueError(f"input: has {len(self.input)} characters, {what}")

    @property
    def most_whole(self) -> int:
        """How many characters an answer in one piece may have: fewer where they make more samples."""
        samples = max(1.0, (self.sample_rate or PCM_RATE) / PCM_RATE) / min(1.0, self.speed)
        return int(MAX_WHOLE / samples)


class CaptionedWord(msgspec.Struct, frozen=True):
    """A word, and when it is heard, in seconds from the start of the sound."""

    word: str
    start_time: float
    end_time: float

    @classmethod
    def of(cls, word: WordTimestamp) -> CaptionedWord:
        """A word under the names that it has here."""
        return cls(word.word, word.start, word.end)


class Captioned(msgspec.Struct, frozen=True):
    """Sound, in base64 on the wire, its media type, and the words that have become known; None if nobody asked."""

    audio: bytes
    audio_format: str
    timestamps: list[CaptionedWord] | None


async def speak(request: Request) -> ASGIApp:
    """`POST /dev/captioned_speech`: JSON, whole or line by line."""
    face = Face.of(request)
    body = await face.read(request, CaptionedBody)
    chosen = await face.chosen(body.model, PipelineTask.AUDIO_GENERATION)
    with asked():
        body.check()
        form, _, sound = open_sound(face, body, chosen.info)
        outputs = spoken(face, chosen, body, timed=body.return_timestamps)
    pieces = _captioned(outputs, sound, form.mime, body.return_timestamps)
    return Streamed(_lines(pieces), LINES) if body.stream else Whole(_whole(pieces))


async def _captioned(
    outputs: AsyncGenerator[AudioGenerationOutput, None], sound: Sound, mime: str, timed: bool
) -> AsyncGenerator[Captioned, None]:
    """Pieces of sound, each with the words that are known by then; the last may be words alone."""
    async with contextlib.aclosing(outputs):
        async for output in outputs:
            data = sound.push(output)
            if data or output.is_done:
                words = [CaptionedWord.of(word) for word in sound.take_words()]
                yield Captioned(data, mime, words if timed else None)


async def _lines(pieces: AsyncGenerator[Captioned, None]) -> AsyncGenerator[bytes, None]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield encode(piece) + b"\n"


async def _whole(pieces: AsyncGenerator[Captioned, None]) -> WholeAnswer:
    async with contextlib.aclosing(pieces):
        gathered = [piece async for piece in pieces]
    audio = b"".join(piece.audio for piece in gathered)
    words = [word for piece in gathered for word in piece.timestamps or ()]
    timed = gathered[-1].timestamps is not None
    return WholeAnswer(encode(Captioned(audio, gathered[-1].audio_format, words if timed else None)))
