"""What a client has open between its entering and its leaving."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import ExitStack
from functools import partial

import zmq

from max_interfaces import NotServing, RequestFailed
from max_interfaces.messages import Cancel, Described, Goodbye, Read

from ..address import ServerAddress
from ..config import Config
from ..problems import complain
from ..security.client import connect
from ..security.keys import KeyPair
from .connection import Connection, check_served
from .demultiplexer import Demultiplexer
from .embedded import Embedded, start_embedded
from .lease import Lease
from .questions import Answer, Questions


class Session:
    """The way to one server, and to one of our own if there is a `config`. Belongs to the running event loop.

    Open once made: NotServing if nobody is at the address; StartFailed and ConfigError as what it opens. It ends with
    `close`.
    """

    def __init__(self, address: ServerAddress | None, config: Config | None, keys: KeyPair | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._server: Embedded | None = None
        self.demultiplexer = Demultiplexer(self._loop, self._tell, self._answer)
        with ExitStack() as resources:
            context = zmq.Context()
            resources.callback(self._end, context)
            if config is not None:
                self._server = start_embedded(config, context, self._lost_in_a_thread)
                resources.callback(self._server.close)
                address = self._server.address
            elif address is not None:
                check_served(address)
            if address is None:
                raise NotServing("the client has no address")
            self._address = address
            dial = partial(connect, address=address, keys=keys)
            self.connection = Connection(context, dial, self.demultiplexer.take, self.fail_all)
            resources.callback(self.connection.close)
            self.questions = Questions(self.connection.send, self._check_server)
            resources.callback(Lease(context, dial, self.connection.peer).close)
            self._resources = resources.pop_all()

    async def close(self) -> None:
        """End all requests, the connection and the embedded server. Safe to call twice."""
        with contextlib.suppress(RequestFailed):
            self.connection.send(Goodbye())
        self.connection.close()
        self.fail_all("the client was closed")
        self.demultiplexer.close()
        # What may block: the lease's thread, the server, and what was sent but has not left. In one piece and in a
        # thread: it goes on to its end even if whoever waits for it is cancelled.
        await asyncio.get_running_loop().run_in_executor(None, self._resources.close)

    def _end(self, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        """Let what was sent leave, unless somebody hangs who would be waited for as well, for ever."""
        left = [] if self._server is None else self._server.left
        if left:
            complain(f"the client is closed, but {', '.join(left)} will not end: left to the process")
        else:
            context.term()

    def fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        self.demultiplexer.fail_all(why)
        self.questions.fail_all(why)

    def _lost_in_a_thread(self, why: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all requests with it
            self._loop.call_soon_threadsafe(self.fail_all, why)

    def _tell(self, message: Cancel | Read) -> None:
        with contextlib.suppress(RequestFailed):
            self.connection.send(message)

    def _answer(self, answer: Answer) -> None:
        """What was asked for; unasked, it is that the server cannot read us."""
        if not self.questions.take(answer) and isinstance(answer, Described) and answer.problem:
            self.fail_all(answer.problem)

    def _check_server(self) -> None:
        """StartFailed or NotServing if nobody is there any more, or has been so far."""
        if self._server is not None:
            self._server.check()
        else:
            check_served(self._address, self.connection.silent_s)
