"""Gives each message to the request that it is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from max_interfaces import Failure, FailureKind, GenerationStatus, RequestFailed, WireError
from max_interfaces.messages import (
    Adapted,
    Cancel,
    ChunkHead,
    Delivery,
    Described,
    Ended,
    Header,
    Read,
    Report,
    Watch,
)
from max_interfaces.wire import AnyOutput, Frame, decode_outputs

from .inbox import Inbox
from .questions import Answer

CHECK_S = 0.5  # how often requests are held against their deadlines
CHUNK_LOST = "a chunk was lost on the way"
GRACE_S = 0.25  # the server itself says when a deadline has passed; this is for when that was lost


class Demultiplexer:
    """The live requests of one client: those whose end has not come yet.

    What comes of earlier uses of an id, twice, or for nobody, is dropped. `tell` sends the server a message, `answer`
    is given what it says of itself.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[Cancel | Read], None],
        answer: Callable[[Answer], None],
    ) -> None:
        self.loop = loop
        self._tell = tell
        self._answer = answer
        self._inboxes: dict[str, Inbox] = {}
        self._serial = 0
        self._check: asyncio.TimerHandle | None = None

    def number(self, key: str) -> int:
        """The number of a new submission. RequestFailed if a request with this id is live."""
        if key in self._inboxes:
            text = f"request {key!r} is still running; give a new id"
            raise RequestFailed(Failure(FailureKind.DUPLICATE_ID, text))
        self._serial += 1
        return self._serial

    def open(self, key: str, serial: int, deadline_s: float, *, ahead: bool = False) -> Inbox:
        """Where the outputs of a submission will arrive."""
        expires = self.loop.time() + deadline_s + GRACE_S
        inbox = self._inboxes[key] = Inbox(self.loop, serial, expires, ahead=ahead)
        if self._check is None:
            self._check = self.loop.call_later(CHECK_S, self._expire)
        return inbox

    def leave(self, key: str, inbox: Inbox) -> None:
        """Nobody reads this request any more. Cancel it if it is live."""
        if self._inboxes.get(key) is inbox:
            del self._inboxes[key]
            self._tell(Cancel(key, inbox.serial))

    def cancel(self, key: str) -> None:
        """Ask the server to end a request; its end will come."""
        inbox = self._inboxes.get(key)
        if inbox is not None:
            self._tell(Cancel(key, inbox.serial))

    def read(self, key: str, inbox: Inbox) -> None:
        """Tell the server how far the reader is, as it wants to know."""
        outputs, sample = inbox.progress
        if outputs > inbox.watched:
            inbox.watched = -1
        if outputs:
            self._tell(Read(key, inbox.serial, outputs - 1, sample))

    def take(self, message: Header, payload: Sequence[Frame]) -> None:
        """A message from the server."""
        match message:
            case Delivery():
                self._delivered(message, payload)
            case Ended(request_id):
                inbox = self._inboxes.get(request_id)
                if inbox is not None and inbox.serial == message.serial:
                    del self._inboxes[request_id]
                    inbox.put(message)
            case Watch():
                self._watch(message)
            case Described() | Report() | Adapted():
                self._answer(message)

    def fail_all(self, why: str) -> None:
        """Nothing more will come for anybody."""
        for key, inbox in self._inboxes.items():
            inbox.put(Ended(key, GenerationStatus.FAILED, FailureKind.CONNECTION_LOST, why))
        self._inboxes.clear()

    def close(self) -> None:
        """Nobody opens anything any more."""
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _delivered(self, delivery: Delivery, payload: Sequence[Frame]) -> None:
        """Chunks of any number of requests."""
        heads, skip = delivery.heads, frozenset(delivery.skip)
        try:
            outputs: Sequence[AnyOutput] = decode_outputs(payload)
            if len(outputs) != len(heads):
                raise WireError(f"{len(outputs)} outputs for {len(heads)} chunks")
        except WireError as problem:
            self._undecodable([head for index, head in enumerate(heads) if index not in skip], str(problem))
            return
        for index, head in enumerate(heads):
            inbox = self._inboxes.get(head.request_id)
            if inbox is None or inbox.serial != head.serial or head.seq < inbox.next_seq or index in skip:
                continue  # nobody's, or a repeat
            output = outputs[index]
            if head.seq > inbox.next_seq:
                self._end(head.request_id, inbox, FailureKind.CONNECTION_LOST, CHUNK_LOST)
            elif output.final_status is not head.status:  # one side would wait where the other has ended
                self._undecodable([head], f"an output is {output.final_status}, its chunk {head.status}")
            else:
                if head.status is not GenerationStatus.ACTIVE:
                    del self._inboxes[head.request_id]
                inbox.put(output, head)

    def _undecodable(self, heads: Iterable[ChunkHead], problem: str) -> None:
        """No output can be had for these: whoever waits for one of them must not wait for ever."""
        for head in heads:
            inbox = self._inboxes.get(head.request_id)
            if inbox is not None and inbox.serial == head.serial and head.seq >= inbox.next_seq:
                live = head.status is GenerationStatus.ACTIVE
                self._end(head.request_id, inbox, FailureKind.WORKER_ERROR, problem, live=live)

    def _end(self, key: str, inbox: Inbox, kind: FailureKind, why: str, *, live: bool = True) -> None:
        """A request ends here; the server is told, if for it the request is still live."""
        status = GenerationStatus.FAILED
        if kind is FailureKind.DEADLINE_EXCEEDED:
            status = GenerationStatus.DEADLINE_EXCEEDED
        del self._inboxes[key]
        inbox.put(Ended(key, status, kind, why[:4096]))
        if live:
            self._tell(Cancel(key, inbox.serial))

    def _watch(self, watch: Watch) -> None:
        inbox = self._inboxes.get(watch.request_id)
        if inbox is None or inbox.serial != watch.serial:
            self._tell(Cancel(watch.request_id, watch.serial))  # nobody will ever read it
        elif watch.seq >= inbox.next_seq:  # it was sent before this question
            self._end(watch.request_id, inbox, FailureKind.CONNECTION_LOST, CHUNK_LOST)
        else:
            inbox.watched = watch.seq
            self.read(watch.request_id, inbox)

    def _expire(self) -> None:
        """End what has had no end by its deadline: that message, or the request itself, was lost."""
        now = self.loop.time()
        late = [(key, inbox) for key, inbox in self._inboxes.items() if inbox.expires <= now]
        for key, inbox in late:
            self._end(key, inbox, FailureKind.DEADLINE_EXCEEDED, "the deadline passed without an answer")
        self._check = self.loop.call_later(CHECK_S, self._expire) if self._inboxes else None
