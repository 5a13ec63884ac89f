"""Gives each message to the request that it is about."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from max_interfaces import Failure, FailureKind, GenerationStatus, RequestFailed, WireError
from max_interfaces.messages import ChunkHead, Delivery, Described, Ended, Header
from max_interfaces.wire import AnyOutput, Frame, decode_payload

from .inbox import Inbox


class Demultiplexer:
    """The live requests of one client: those whose end has not come yet.

    `cancel` is told of those that nobody reads any more, `answer` what the server says of itself.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, cancel: Callable[[str], None], answer: Callable[[Described], None]
    ) -> None:
        self.loop = loop
        self._cancel = cancel
        self._answer = answer
        self._inboxes: dict[str, Inbox] = {}
        self._left: Counter[str] = Counter()  # requests left early whose last message has yet to come

    def check_free(self, key: str) -> None:
        """RequestFailed if a request with this id is live."""
        if key in self._inboxes:
            text = f"request {key!r} is still running; give a new id"
            raise RequestFailed(Failure(FailureKind.DUPLICATE_ID, text))

    def open(self, key: str) -> Inbox:
        """Where the outputs of the request `key` will arrive."""
        inbox = self._inboxes[key] = Inbox(self.loop)
        return inbox

    def leave(self, key: str, inbox: Inbox) -> None:
        """Nobody reads this request any more. Cancel it if it is live; until its end comes, drop what comes."""
        if self._inboxes.get(key) is inbox:
            del self._inboxes[key]
            self._left[key] += 1
            self._cancel(key)

    def take(self, message: Header, payload: Sequence[Frame]) -> None:
        """A message from the server."""
        match message:
            case Delivery():
                self._delivered(message, payload)
            case Ended():
                self._put(message.request_id, message, last=True)
            case Described():
                self._answer(message)

    def fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        self._left.clear()
        for key, inbox in self._inboxes.items():
            inbox.put(Ended(key, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, why))
        self._inboxes.clear()

    def _delivered(self, delivery: Delivery, payload: Sequence[Frame]) -> None:
        """Chunks of any number of requests."""
        heads, skip = delivery.heads, frozenset(delivery.skip)
        try:
            outputs: Sequence[Any] = decode_payload(payload)
            if len(outputs) != len(heads):
                raise WireError(f"{len(outputs)} outputs for {len(heads)} chunks")
        except WireError as problem:
            self._undecodable([head for index, head in enumerate(heads) if index not in skip], str(problem))
            return
        for index, head in enumerate(heads):
            if index in skip:
                continue
            output = outputs[index]
            if output.final_status is head.status:
                self._put(head.request_id, output, last=head.status is not GenerationStatus.ACTIVE)
            else:  # one side would wait where the other has ended
                self._undecodable([head], f"an output is {output.final_status}, its chunk {head.status}")

    def _put(self, key: str, item: AnyOutput | Ended, last: bool) -> None:
        if self._left and key in self._left:  # the rest of an earlier request with this id
            if last:
                self._left -= Counter([key])
            return
        inbox = self._inboxes.pop(key, None) if last else self._inboxes.get(key)
        if inbox is not None:
            inbox.put(item)

    def _undecodable(self, heads: Iterable[ChunkHead], problem: str) -> None:
        """No output can be had for these: whoever waits for one of them must not wait for ever."""
        for key, head in {head.request_id: head for head in heads}.items():
            ended = Ended(key, GenerationStatus.FAILED, FailureKind.WORKER_ERROR, problem[:4096])
            inbox = self._inboxes.get(key)
            if head.status is not GenerationStatus.ACTIVE:
                self._put(key, ended, last=True)
            elif inbox is not None and key not in self._left:
                inbox.put(ended)
                self.leave(key, inbox)
