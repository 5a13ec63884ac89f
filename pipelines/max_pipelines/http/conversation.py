"""WebSocket `/v1/audio/speech/stream`: text in as it is written, sound out as it is made.

The client says, each as a JSON text message:

    {"type": "config", …}            the fields of `POST /v1/audio/speech` but `input`; before the text that it is for
    {"type": "text", "text": "…"}    more of the text, in pieces of any size
    {"type": "flush"}                speak what was written so far
    {"type": "end"}                  this utterance's text is complete; the next text begins another
    {"type": "cancel"}               stop now; nothing of this utterance comes after `cancelled`
    {"type": "close"}                as `end`, and nothing more will be said

and hears

    {"type": "start", "response_format", "sample_rate"}   an utterance begins; its sound follows as binary messages
    {"type": "words", "words"}                            when words are heard, if `word_timestamps` is set
    {"type": "done", "usage"}                             it is whole
    {"type": "cancelled"}                                 it is not, and nothing more of it comes
    {"type": "error", "error", "error_type"}              it has failed; what comes next is a new one
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from max_interfaces import PipelineTask

from ..client import Flush
from .exchange import note_error
from .face import Face
from .json import encode
from .origins import may_ask
from .problems import VALIDATION, HttpProblem, asked, told
from .sound import open_sound
from .speech import voice_of
from .speech_body import SpeechFields

MAX_WAITING = 2**20  # characters that were written and not spoken yet
PIECE_COST = 16  # characters that each piece counts besides its own: a queue of nothing takes room, too
MAX_UNHEARD = 256  # utterances
NORMAL, POLICY, TOO_BIG = 1000, 1008, 1009


class Configure(SpeechFields, frozen=True, tag_field="type", tag="config"):
    """How what comes next is to be spoken."""


class Text(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    """More of the text."""

    text: Annotated[str, Meta(max_length=2**17)]


class FlushNow(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """Speak what is there."""


class End(msgspec.Struct, frozen=True, tag_field="type", tag="end"):
    """The utterance's text is complete."""


class Cancel(msgspec.Struct, frozen=True, tag_field="type", tag="cancel"):
    """Stop."""


class Close(msgspec.Struct, frozen=True, tag_field="type", tag="close"):
    """Nothing more will be said."""


Said: TypeAlias = Configure | Text | FlushNow | End | Cancel | Close
_decoder = msgspec.json.Decoder(Said)


async def converse(websocket: WebSocket) -> None:
    """One connection, from its beginning to its end."""
    face: Face = websocket.app.state.face
    if not may_ask(websocket, face.config.cors_origins):
        await websocket.close(POLICY, "pages of other sites may not ask")
        return
    await websocket.accept()
    conversation = Conversation(websocket, face)
    try:
        await conversation.run()
    except WebSocketDisconnect:
        pass
    finally:
        await conversation.stop()


class Conversation:
    """What is said, and the utterances that are still to be heard, the first of them being spoken.

    Whatever is under way, the next message is read at once: it may be a cancel.
    """

    def __init__(self, websocket: WebSocket, face: Face) -> None:
        self._websocket = websocket
        self._face = face
        self._fields = Configure()
        self._unheard: deque[Utterance] = deque()
        self._written: Utterance | None = None  # the one that more text belongs to
        self._speaking: asyncio.Task[None] | None = None
        self._closing = False

    async def run(self) -> None:
        """Until the client has left, or has closed and heard all: then, too, WebSocketDisconnect."""
        while True:
            message = await self._websocket.receive_text()
            try:
                await self._hear(_decoder.decode(message))
            except (msgspec.DecodeError, RecursionError) as problem:
                await self._tell_problem(HttpProblem(422, VALIDATION, f"the message is none: {problem}"))

    async def stop(self) -> None:
        """Nothing more is said, nor made."""
        speaking, self._speaking, self._written = self._speaking, None, None
        self._unheard.clear()
        if speaking is not None:
            speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await speaking

    async def _hear(self, said: Said) -> None:
        match said:
            case Configure():
                self._end()
                self._fields = said
            case Text(text):
                await self._write(text)
            case FlushNow():
                if self._written is not None:
                    self._written.write(Flush())
                    await self._bound()
            case End():
                self._end()
            case Cancel():
                await self.stop()
                await self._tell({"type": "cancelled"})
            case Close():
                self._end()
                self._closing = True
                self._speak_on()

    def _end(self) -> None:
        if self._written is not None:
            self._written.end()
            self._written = None

    async def _write(self, text: str) -> None:
        if self._closing:
            raise msgspec.ValidationError("nothing may be said after close")
        if self._written is None:
            self._written = Utterance(self._fields)
            self._unheard.append(self._written)
        self._written.write(text)
        self._speak_on()
        await self._bound()

    async def _bound(self) -> None:
        """Close on who says more than could ever be kept for them."""
        if len(self._unheard) > MAX_UNHEARD or sum(utterance.waiting for utterance in self._unheard) > MAX_WAITING:
            await self.stop()
            await self._websocket.close(TOO_BIG, "too much waits to be spoken")

    def _speak_on(self) -> None:
        if self._speaking is None or self._speaking.done():
            self._speaking = asyncio.ensure_future(self._speak_all())

    async def _speak_all(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # nobody is there any more
            while self._unheard:
                await self._speak(self._unheard[0])
                self._unheard.popleft()
            if self._closing:
                await self._websocket.close(NORMAL)

    async def _speak(self, utterance: Utterance) -> None:
        try:
            await self._say(utterance)
        except WebSocketDisconnect:
            raise
        except Exception as problem:
            if isinstance(problem, RuntimeError) and not self._is_open:
                raise  # Starlette's own, for who sends after the end
            if self._written is utterance:
                self._written = None
            await self._tell_problem(told(problem))

    @property
    def _is_open(self) -> bool:
        return self._websocket.client_state is self._websocket.application_state is WebSocketState.CONNECTED

    async def _say(self, utterance: Utterance) -> None:
        face, fields = self._face, utterance.fields
        await face.wait_loaded()
        chosen = await face.chosen(fields.model, PipelineTask.AUDIO_GENERATION)
        info = chosen.info
        with asked():
            form, to_rate, sound = open_sound(face, fields, info)
            params = fields.sampling
        voice = voice_of(face, info, fields)
        outputs = face.client.stream_text(
            utterance.pieces(),
            voice=voice,
            model=info.name,
            sampling_params=params,
            adapter=chosen.adapter,
            normalize=fields.normalization_options.normalize,
            audio_prompt_tokens=fields.audio_prompt_tokens,
            audio_prompt_transcription=fields.audio_prompt_transcription,
            word_timestamps=fields.word_timestamps,
        )
        await self._tell({"type": "start", "response_format": form.name, "sample_rate": to_rate})
        async with contextlib.aclosing(outputs):
            async for output in outputs:
                data = sound.push(output)
                if words := sound.take_words():
                    await self._tell({"type": "words", "words": words})
                if data:
                    await self._websocket.send_bytes(data)
        await self._tell({"type": "done", "usage": sound.usage})

    async def _tell(self, message: dict[str, object]) -> None:
        await self._websocket.send_text(encode(message).decode())

    async def _tell_problem(self, problem: HttpProblem) -> None:
        note_error(problem.kind)
        await self._tell({"type": "error", "error": str(problem), "error_type": problem.kind})


class Utterance:
    """The text of one, as it is written, and how it is to be spoken."""

    def __init__(self, fields: SpeechFields) -> None:
        self.fields = fields
        self.waiting = 0  # characters that nobody has asked for yet, and what their pieces count
        self._pieces: asyncio.Queue[str | Flush | None] = asyncio.Queue()

    def write(self, piece: str | Flush) -> None:
        """More of it."""
        self.waiting += _size(piece)
        self._pieces.put_nowait(piece)

    def end(self) -> None:
        """It is complete."""
        self._pieces.put_nowait(None)

    async def pieces(self) -> AsyncIterator[str | Flush]:
        """What was written, and what is written from now on."""
        while (piece := await self._pieces.get()) is not None:
            self.waiting -= _size(piece)
            yield piece


def _size(piece: str | Flush) -> int:
    return PIECE_COST + (len(piece) if isinstance(piece, str) else 0)
