"""Who has come over Wyoming."""

from __future__ import annotations

import asyncio
import logging
import socket as sockets

from ..config import WyomingConfig
from ..http.face import Face
from ..http.problems import OVERLOADED, HttpProblem, told
from .conversation import Conversation
from .wire import Wire

GRACE_S = 1.0  # for what is still being heard when this process is told to end
logger = logging.getLogger(__name__)


class WyomingServer:
    """The connections of a face's clients that speak Wyoming."""

    def __init__(self, face: Face, config: WyomingConfig) -> None:
        self._face = face
        self._config = config
        self._open: dict[asyncio.Task[None] | None, Conversation] = {}

    async def serve(self, socket: sockets.socket, ending: asyncio.Event) -> None:
        """Serve whoever comes until the event is set; what is being spoken then may end, within bounds."""
        server = await asyncio.start_server(self._connected, sock=socket, limit=self._config.max_text_bytes)
        try:
            await ending.wait()
        finally:
            server.close()
            await self._end()

    async def _end(self) -> None:
        for conversation in self._open.values():
            conversation.end()
        tasks = [task for task in self._open if task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer, self._config)
        try:
            if len(self._open) < self._config.max_connections:
                await self._converse(wire)
            else:
                await wire.tell(HttpProblem(503, OVERLOADED, "too many connections are open; try again later"))
        except OSError as problem:
            logger.debug("a client is lost: %s", problem)
        finally:
            wire.close()

    async def _converse(self, wire: Wire) -> None:
        conversation = Conversation(wire, self._face, self._config)
        task = asyncio.current_task()
        self._open[task] = conversation
        try:
            try:
                await conversation.run()
            except OSError:
                raise
            except Exception as error:
                await wire.tell(told(error))
            await wire.finish()
        finally:
            del self._open[task]
