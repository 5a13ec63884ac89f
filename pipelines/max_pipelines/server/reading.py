"""Readers slower than the engine: their requests rest until they have caught up."""

from __future__ import annotations

import math

from max_interfaces.messages import Pace, Watch

from ..config import Limits
from .events import Action, Send
from .ledger import Ledger
from .table import Catalogue, LiveRequest

NEVER = 2**31


class Reading:
    """How far the reader of each request is behind what was sent to it.

    Nothing is asked of who reads a short answer, or fast: a client is asked to tell what its reader takes only when
    half of what it may be behind has been sent since it was last known. While it is all of that behind, the request
    rests; it goes on when half of it has been read. So a listener at playing speed never waits, and nothing grows.
    """

    def __init__(self, limits: Limits, ledger: Ledger, catalogue: Catalogue) -> None:
        self._limits = limits
        self._ledger = ledger
        self._catalogue = catalogue

    def begins(self, request: LiveRequest, now: float) -> None:
        """The first output of a request has been sent."""
        request.begun = now
        self._set_marks(request)

    def passed(self, request: LiveRequest, now: float) -> list[Action]:
        """More of a request was sent than its marks allow without a look."""
        actions = self._watch(request)
        if self._behind(request) >= 1.0 and not request.resting:
            request.resting = True
            if request.stalls_at == math.inf:
                self._ledger.stalls(request, now + self._limits.stall_s)
            actions += self._pace(request)
        self._set_marks(request)
        return actions

    def read(self, request: LiveRequest, seq: int, sample: int, now: float) -> list[Action]:
        """The reader has taken all outputs up to number `seq`, and the sound before `sample`."""
        outputs = min(seq + 1, request.next_seq)
        told, request.told_seq = request.told_seq, outputs
        if outputs <= request.read_seq:  # a repeat, unless it changes: what was kept ahead is read only now
            if outputs != told and request.stalls_at < math.inf:
                self._ledger.stalls(request, now + self._limits.stall_s)
            return []
        request.read_seq, request.read_sample = outputs, min(max(sample, request.read_sample), request.next_sample)
        if request.watched and outputs >= request.watched:
            request.watched = 0
        actions: list[Action] = []
        if request.resting and self._behind(request) <= 0.5:
            request.resting = False
            actions += self._pace(request)
        if request.resting:
            self._ledger.stalls(request, now + self._limits.stall_s)
            actions += self._watch(request)
        elif request.stalls_at < math.inf:
            self._ledger.wakes(request)
        self._set_marks(request)
        if request.next_sample > request.mark_sample or request.next_seq > request.mark_seq:
            actions += self.passed(request, now)
        return actions

    def ask_again(self) -> list[Action]:
        """Where a request rests, the question how far its reader is may be lost, or the last answer: ask them all."""
        resting = list(self._ledger.resting.values())
        return [Send(one.peer, Watch(one.request_id, one.serial, one.next_seq - 1)) for one in resting]

    def _watch(self, request: LiveRequest) -> list[Action]:
        """Ask the client to tell what is read, up to the last output sent, unless it was asked."""
        if request.watched:
            return []
        request.watched = request.next_seq
        return [Send(request.peer, Watch(request.request_id, request.serial, request.next_seq - 1))]

    def _pace(self, request: LiveRequest) -> list[Action]:
        if request.worker is None:
            return []
        return [Send(request.worker.peer, Pace(request.request_id, request.attempt, request.resting))]

    def _behind(self, request: LiveRequest) -> float:
        """How far the reader is behind, as a share of what it may be."""
        share = (request.next_seq - request.read_seq) / self._limits.ahead_outputs
        rate = self._catalogue.rate(request.model)
        if rate:
            share = max(share, (request.next_sample - request.read_sample) / (rate * self._limits.ahead_s))
        return share

    def _set_marks(self, request: LiveRequest) -> None:
        """Look again when half is unread, if the client was not asked yet, or all of it, or never."""
        if request.resting:
            request.mark_sample, request.mark_seq = math.inf, NEVER
            return
        share = 1.0 if request.watched else 0.5
        rate = self._catalogue.rate(request.model)
        request.mark_sample = request.read_sample + share * rate * self._limits.ahead_s if rate else math.inf
        request.mark_seq = request.read_seq + max(1, math.ceil(share * self._limits.ahead_outputs))
