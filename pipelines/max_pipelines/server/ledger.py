"""The requests that are live: whose they are, which wait, and when each must have ended."""

from __future__ import annotations

import math

from .table import ClientRecord, Deadlines, LiveRequest, WaitingLine


class Ledger:
    """Live requests by id. A client is known as long as it has some; its lease ends `lease_s` after its last ping.

    `wake` is when a deadline or lease may have ended: never too late, but too early once what was due is put off.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._deadlines = Deadlines()
        self.requests: dict[str, LiveRequest] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self.waiting = WaitingLine()
        self.wake = math.inf

    def open(self, request: LiveRequest, now: float) -> None:
        """Enter a request."""
        self.requests[request.request_id] = request
        client = self.clients.get(request.peer)
        if client is None:
            client = self.clients[request.peer] = ClientRecord(now)
        client.seen = now
        client.requests.add(request.request_id)
        self._deadlines.add(request, self.requests)
        self.wake = min(self.wake, request.deadline, now + self._lease_s)

    def close(self, request: LiveRequest) -> None:
        """Strike a request out: the only way out of the table."""
        del self.requests[request.request_id]
        if request.worker is None:
            self.waiting.remove(request.request_id)
        else:
            request.worker.running.discard(request.request_id)
        client = self.clients[request.peer]
        client.requests.discard(request.request_id)
        if not client.requests:
            del self.clients[request.peer]  # nothing left that a lease could protect

    def pinged(self, peer: bytes, now: float) -> None:
        """A client lives."""
        if peer in self.clients:
            self.clients[peer].seen = now

    def of(self, peer: bytes) -> list[LiveRequest]:
        """The requests of a client."""
        client = self.clients.get(peer)
        return [self.requests[key] for key in sorted(client.requests)] if client else []

    def late(self, now: float) -> list[LiveRequest]:
        """The requests whose deadline has passed."""
        return self._deadlines.due(now, self.requests)

    def silent(self, now: float) -> list[bytes]:
        """The clients whose lease has ended."""
        return [peer for peer, client in self.clients.items() if client.seen + self._lease_s <= now]

    def look_ahead(self) -> None:
        """Set `wake` to when the next deadline or lease ends, infinity if there is none."""
        seen = min((client.seen for client in self.clients.values()), default=math.inf)
        self.wake = min(self._deadlines.next, seen + self._lease_s)
