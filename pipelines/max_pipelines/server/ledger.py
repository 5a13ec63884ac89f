"""The requests that are live: whose they are, which wait, and when each must have ended."""

from __future__ import annotations

import math

from .table import ClientRecord, Deadlines, LiveRequest, WaitingLine


class Ledger:
    """Live requests by id. A client is known as long as it has some; its lease ends `lease_s` after its last ping."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._deadlines = Deadlines()
        self.requests: dict[str, LiveRequest] = {}
        self.clients: dict[bytes, ClientRecord] = {}
        self.waiting = WaitingLine()

    def open(self, request: LiveRequest, now: float) -> float:
        """Enter a request. Returns when its client or itself is next due."""
        self.requests[request.request_id] = request
        client = self.clients.get(request.peer)
        if client is None:
            client = self.clients[request.peer] = ClientRecord(now)
        client.seen = now
        client.requests.add(request.request_id)
        self._deadlines.add(request, self.requests)
        return min(request.deadline, now + self._lease_s)

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

    @property
    def due(self) -> float:
        """When the next deadline or lease ends, infinity if there is none."""
        seen = min((client.seen for client in self.clients.values()), default=math.inf)
        return min(self._deadlines.next, seen + self._lease_s)
