"""One text that is to be spoken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from io import StringIO

from max_interfaces import AudioGenerationOutput
from max_interfaces.messages import ModelInfo

from ..client import AsyncClient
from .events import Voice


class Utterance:
    """A text, whole or `streamed`, as it is written, and who is to speak it."""

    def __init__(self, voice: Voice | None, *, streamed: bool) -> None:
        self.voice = voice
        self.streamed = streamed
        self.length = 0  # characters
        self._written = StringIO()  # pieces of any size cost what their characters cost
        self._ended = False
        self._news = asyncio.Event()

    def write(self, text: str) -> None:
        """More of it."""
        self.length += len(text)
        self._written.write(text)
        self._news.set()

    def end(self) -> None:
        """It is complete."""
        self._ended = True
        self._news.set()

    def sound(
        self, client: AsyncClient, info: ModelInfo, voice: str | None
    ) -> AsyncGenerator[AudioGenerationOutput, None]:
        """What is heard of it, as it is made. Raises as `AsyncClient.speak` does."""
        if self.streamed:
            return client.stream_text(self._pieces(), voice=voice, model=info.name)
        return client.speak(self._take(), voice=voice, model=info.name)

    async def _pieces(self) -> AsyncIterator[str]:
        while True:
            if text := self._take():
                yield text
            elif self._ended:
                return
            else:
                self._news.clear()
                await self._news.wait()

    def _take(self) -> str:
        written, self._written = self._written, StringIO()
        return written.getvalue()
