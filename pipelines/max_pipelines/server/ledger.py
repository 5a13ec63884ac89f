"""The requests that are live: whose they are, which wait, and when each must have ended."""

from __future__ import annotations

import math

from .table import ClientRecord, Deadlines, LiveRequest
from .waiting import WaitingLine


class Ledger:
    """Live requests by id. A client is known as long as it has some; its lease ends `lease_s` after its last ping.

    A request without a worker is in one of two lines: `suspects` were there when a worker died, `waiting` are all
    others. `wake` is when a deadline or lease may have ended, or a reader stalled: never too late, but too early once
    what was due is put off.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._deadlines = Deadlines()
        self.resting: dict[str, LiveRequest] = {}  # those whose reader is behind
        self.requests: dict[str, LiveRequest] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self.waiting = WaitingLine()
        self.suspects = WaitingLine()
        self.bytes = 0  # of all payloads
        self.wake = math.inf

    def open(self, request: LiveRequest, now: float) -> None:
        """Enter a request."""
        self.requests[request.request_id] = request
        self.bytes += request.size
        client = self.clients.get(request.peer)
        if client is None:
            client = self.clients[request.peer] = ClientRecord(now)
        client.seen = now
        client.requests.add(request.request_id)
        self._deadlines.add(request, self.requests)
        self.wake = min(self.wake, request.deadline, now + self._lease_s)

    def close(self, request: LiveRequest) -> None:
        """Strike a request out: the only way out of the table."""
        key = request.request_id
        del self.requests[key]
        self.bytes -= request.size
        if request.worker is None:
            self.waiting.remove(key)
            self.suspects.remove(key)
        else:
            self.detach(request)
        if request.stalls_at < math.inf:
            self.wakes(request)
        client = self.clients[request.peer]
        client.requests.discard(key)
        if not client.requests:
            del self.clients[request.peer]  # nothing left that a lease could protect

    def detach(self, request: LiveRequest) -> None:
        """Take a request from its worker."""
        worker = request.worker
        if worker is not None:
            worker.running.discard(request.request_id)
            worker.bytes -= request.size
            worker.unproven -= not request.proven
            worker.trial.discard(request.request_id)
        request.worker = None
        request.proven = False
        request.missing = 0
        if request.resting:  # its next worker knows nothing of that: look again at once
            request.resting, request.mark_seq = False, 0

    def stalls(self, request: LiveRequest, at: float) -> None:
        """The request's reader is behind, and must have read something by a time."""
        request.stalls_at = at
        self.resting[request.request_id] = request
        self.wake = min(self.wake, at)

    def wakes(self, request: LiveRequest) -> None:
        """The request's reader has caught up."""
        request.stalls_at = math.inf
        self.resting.pop(request.request_id, None)

    def pinged(self, peer: bytes, now: float) -> None:
        """A client lives."""
        if peer in self.clients:
            self.clients[peer].seen = now

    def excuse(self, seconds: float) -> None:
        """For so long nobody could be heard: it counts for no lease and no reader."""
        for client in self.clients.values():
            client.seen += seconds
        for request in self.resting.values():
            request.stalls_at += seconds

    def of(self, peer: bytes) -> list[LiveRequest]:
        """The requests of a client."""
        client = self.clients.get(peer)
        return [self.requests[key] for key in sorted(client.requests)] if client else []

    def late(self, now: float) -> list[LiveRequest]:
        """The requests whose deadline has passed."""
        return self._deadlines.due(now, self.requests)

    def stalled(self, now: float) -> list[LiveRequest]:
        """The requests of which nothing was read for too long."""
        return [request for request in self.resting.values() if request.stalls_at <= now]

    def silent(self, now: float) -> list[bytes]:
        """The clients whose lease has ended."""
        return [peer for peer, client in self.clients.items() if client.seen + self._lease_s <= now]

    def look_ahead(self) -> None:
        """Set `wake` to when the next deadline or lease ends, infinity if there is none."""
        seen = min((client.seen for client in self.clients.values()), default=math.inf)
        stalls = min((request.stalls_at for request in self.resting.values()), default=math.inf)
        self.wake = min(self._deadlines.next, seen + self._lease_s, stalls)
