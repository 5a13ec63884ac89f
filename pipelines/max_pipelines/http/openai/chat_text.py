"""One answer of a chat: its text becomes a message, or the deltas of one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from msgspec import UNSET

from max_interfaces import TextGenerationOutput

from .answers import CalledFunction, ChatChoice, ChunkChoice, Delta, Message, ToolCall, finish_reason
from .audio import AnswerSound, Audio
from .calls import CallReader
from .forced_calls import ForcedReader
from .logprobs import ChoiceLogprobs, chat_logprobs
from .pieces import Arguments, CallBegins, Content, Piece, Plain, Reader, Reasoning
from .thinking import ThinkingReader
from .tools import Offer


class ChatText:
    """Takes the outputs of one sequence. With `logprobs` each token's go with it, whatever became of the token.

    With a `sound` what is said is its transcript, and no content.
    """

    def __init__(
        self,
        index: int,
        offer: Offer,
        *,
        echoed: str = "",
        logprobs: bool = False,
        sound: AnswerSound | None = None,
    ) -> None:
        self.index = index
        self._offer = offer
        self._echoed = echoed
        self._logprobs = logprobs
        self._sound = sound
        self._reader: ThinkingReader | None = None  # what it is depends on the first output
        self._calls = False

    def whole(self, output: TextGenerationOutput) -> ChatChoice:
        """All of it. HttpProblem for a text that did not come to its end."""
        pieces = list(self._pieces(output))
        said, sound = _joined(pieces, Content), self._sound
        message = Message(
            content=said or (None if self._calls else "") if sound is None else None,
            reasoning_content=_joined(pieces, Reasoning) or UNSET,
            tool_calls=_calls(pieces) or UNSET,
            audio=UNSET if sound is None else sound.whole(output.audio_data, said),
        )
        return ChatChoice(self.index, message, self._logprobs_of(output), self._reason(output) or "stop")

    def chunks(self, output: TextGenerationOutput) -> Iterator[ChunkChoice]:
        """More of it. HttpProblem for a text that did not come to its end."""
        reason = finish_reason(output)
        deltas = [] if self._reader is not None else [self._first()]
        deltas += [self._spoken(_delta(piece)) for piece in self._pieces(output)]
        deltas += self._sounding(output, done=reason is not None)
        logprobs = self._logprobs_of(output)
        if logprobs is not None and not deltas:
            deltas = [Delta(content="")]
        for delta in deltas:
            yield ChunkChoice(self.index, delta, logprobs)
            logprobs = None
        if reason is not None:
            yield ChunkChoice(self.index, Delta(), None, self._reason(output))

    def _first(self) -> Delta:
        """What tells whose answer it is."""
        if self._sound is None:
            return Delta(role="assistant", content="")
        return Delta(role="assistant", audio=Audio(id=self._sound.id, transcript=""))

    def _spoken(self, delta: Delta) -> Delta:
        """Content as what it is where it is spoken."""
        return delta if self._sound is None or delta.content is UNSET else Delta(audio=Audio(transcript=delta.content))

    def _sounding(self, output: TextGenerationOutput, *, done: bool) -> Iterator[Delta]:
        """More of the sound, and its end."""
        if self._sound is None:
            return
        data = self._sound.more(output.audio_data, done=done)
        if data:
            yield Delta(audio=Audio(data=data))
        if done:
            yield Delta(audio=self._sound.end)

    def _pieces(self, output: TextGenerationOutput) -> Iterator[Piece]:
        for piece in self._read(output):
            self._calls = self._calls or isinstance(piece, CallBegins)
            yield piece

    def _read(self, output: TextGenerationOutput) -> Iterator[Piece]:
        if self._reader is None:
            self._reader = ThinkingReader(self._then(), inside=output.thinking)
            if self._echoed:
                yield Content(self._echoed)
        yield from self._reader.push(output.text)
        if finish_reason(output) is not None:
            yield from self._reader.finish()

    def _then(self) -> Reader:
        """What reads the text behind the thinking."""
        if self._offer.forced:
            return ForcedReader()
        return CallReader(self._offer.names, self._offer.most) if self._offer.functions else Plain()

    def _reason(self, output: TextGenerationOutput) -> str | None:
        reason = finish_reason(output)
        return "tool_calls" if reason == "stop" and self._calls else reason

    def _logprobs_of(self, output: TextGenerationOutput) -> ChoiceLogprobs | None:
        tokens = chat_logprobs(output) if self._logprobs else []
        return ChoiceLogprobs(tokens) if tokens else None


def _joined(pieces: list[Piece], kind: type[Content] | type[Reasoning]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, kind))


def _calls(pieces: list[Piece]) -> list[ToolCall]:
    """Each call with all of its arguments."""
    begun = [piece for piece in pieces if isinstance(piece, CallBegins)]
    more = [piece for piece in pieces if isinstance(piece, Arguments)]
    return [
        ToolCall(
            id=_new_id(),
            type="function",
            function=CalledFunction(call.name, "".join(piece.text for piece in more if piece.number == call.number)),
        )
        for call in begun
    ]


def _delta(piece: Piece) -> Delta:
    match piece:
        case Reasoning(text):
            return Delta(reasoning_content=text)
        case Content(text):
            return Delta(content=text)
        case CallBegins(number, name):
            call = ToolCall(index=number, id=_new_id(), type="function", function=CalledFunction(name))
        case Arguments(number, text):
            call = ToolCall(index=number, function=CalledFunction(arguments=text))
    return Delta(tool_calls=[call])


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
