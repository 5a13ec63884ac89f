"""What a client says on one connection, and what it hears.

It may say, and hears:

    describe                                       info
    ping                                           pong
    select-program                                 nothing: what comes next is for that model
    synthesize                                     audio-start, audio-chunk …, audio-stop
    synthesize-start, synthesize-chunk …,          the same while the text is still being written,
        synthesize-stop                            then synthesize-stopped

After an `error` the connection ends: clients exist that do not know of errors, and would wait for a sound.
"""

from __future__ import annotations

import asyncio
import contextlib

from max_codecs.pcm import to_s16
from max_interfaces import GenerationStatus, PipelineTask

from ..config import WyomingConfig
from ..http.face import Face
from ..http.playback import Playback
from ..http.problems import OVERLOADED, VALIDATION, HttpProblem
from ..http.streaming import turn
from .events import (
    Describe,
    Ping,
    Said,
    SelectProgram,
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    Voice,
    understood,
)
from .info import describe, voice_of
from .utterance import Utterance
from .wire import Wire

MAX_UNHEARD = 8  # utterances
SAMPLE_BYTES, CHANNELS = 2, 1


class Conversation:
    """One connection's. Whatever is being spoken, the next event is read at once: it may be that nobody is there."""

    def __init__(self, wire: Wire, face: Face, config: WyomingConfig) -> None:
        self._wire = wire
        self._face = face
        self._config = config
        self._program = ""
        self._unheard: asyncio.Queue[Utterance | None] = asyncio.Queue()
        self._written: Utterance | None = None  # the one that more text belongs to

    async def run(self) -> None:
        """Until the client has left, or all is said after `end`. Raises what is to be told: see `problem_of`."""
        tasks = [asyncio.ensure_future(self._listen()), asyncio.ensure_future(self._speak())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    def end(self) -> None:
        """Speak what was said so far, and no more."""
        self._unheard.put_nowait(None)

    # -- listening -----------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        while (event := await self._wire.read()) is not None:
            if (said := understood(event)) is not None:
                await self._hear(said)
            await turn()  # a thousand events that have come at once are not to keep others waiting

    async def _hear(self, said: Said) -> None:
        match said:
            case Describe():
                await self._face.wait_loaded()
                await self._wire.write("info", describe(await self._face.models(), self._config.languages))
            case Ping(text):
                await self._wire.write("pong", {"text": text})
            case SelectProgram(name):
                await self._face.wait_loaded()
                self._program = self._face.model(name, PipelineTask.AUDIO_GENERATION).name
            case Synthesize():
                if self._written is None:  # else it is what comes in pieces already
                    self._begin(said.voice, streamed=False)
                    self._write(said.text)
                    self._end()
            case SynthesizeStart():
                if self._written is not None:
                    raise HttpProblem(422, VALIDATION, "synthesize-start: the text before has not ended")
                self._begin(said.voice, streamed=True)
            case SynthesizeChunk(text):
                self._write(text)
            case SynthesizeStop():
                self._end()

    def _begin(self, voice: Voice | None, *, streamed: bool) -> None:
        if self._unheard.qsize() >= MAX_UNHEARD:
            raise HttpProblem(429, OVERLOADED, f"{MAX_UNHEARD} texts wait to be spoken already")
        self._written = Utterance(voice, streamed=streamed)
        self._unheard.put_nowait(self._written)

    def _write(self, text: str) -> None:
        written = self._open()
        most = self._config.max_text_bytes
        if written.length + len(text) > most:
            raise HttpProblem(413, VALIDATION, f"a text has {most} characters at most")
        written.write(text)

    def _end(self) -> None:
        self._open().end()
        self._written = None

    def _open(self) -> Utterance:
        if self._written is None:
            raise HttpProblem(422, VALIDATION, "no text has begun; say synthesize-start first")
        return self._written

    # -- speaking ------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        while (utterance := await self._unheard.get()) is not None:
            await self._say(utterance)

    async def _say(self, utterance: Utterance) -> None:
        face, wire = self._face, self._wire
        await face.wait_loaded()
        info = face.model(self._program, PipelineTask.AUDIO_GENERATION)
        form: dict[str, object] = {"rate": info.sample_rate, "width": SAMPLE_BYTES, "channels": CHANNELS}
        outputs = utterance.sound(face.client, info, voice_of(info, utterance.voice, self._config.languages))
        playback = Playback(face.metrics, info.sample_rate)
        begun = False
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                if output.final_status is GenerationStatus.CANCELLED:
                    raise HttpProblem(503, "unavailable", "the request was cancelled")
                if not begun:
                    await wire.write("audio-start", form)
                    begun = True
                playback.heard(output.audio_data)
                if sound := to_s16(output.audio_data).tobytes():
                    playback.sent(sound)
                    await wire.write("audio-chunk", form, sound)
                await turn()
        playback.ended()
        await wire.write("audio-stop")
        if utterance.streamed:
            await wire.write("synthesize-stopped")
