"""The line of requests that wait for a worker."""

from __future__ import annotations

import heapq
import itertools

from .table import SLACK, LiveRequest

RESUMED = -1000  # before every priority
Entry = tuple[int, float, int, str]  # rank, turn, place, request id


class WaitingLine:
    """Requests that wait for a worker, by model.

    First those that a lost worker had begun, whose listener runs dry soonest; then higher priority first. Among equals
    tenants take turns, and each tenant's own requests go in order of arrival. (Start-time fair queueing: a request's
    turn is one after its tenant's last, but not before the one that is being served.) `places` are those who wait.

    Of a tenant with nothing in the line nothing is kept. What was served of it lies behind the turn that is being
    served, and what it took back was never served: so its next turn is that of any other who comes now.
    """

    def __init__(self) -> None:
        self._heaps: dict[str, list[Entry]] = {}
        self._order = itertools.count()
        self.places: dict[str, int] = {}  # an entry whose number is not here has left the line
        self._turns: dict[str, float] = {}  # the last one of each tenant that waits
        self._turn = 0.0  # the one that is being served
        self._sizes: dict[str, int] = {}  # how many of each tenant wait
        self._tenants: dict[str, str] = {}  # of those that wait

    def __len__(self) -> int:
        return len(self.places)

    @property
    def models(self) -> list[str]:
        """Those for which somebody may wait."""
        return sorted(self._heaps) if self.places else []

    def of_tenant(self, tenant: str) -> int:
        """How many of a tenant's requests wait."""
        return self._sizes.get(tenant, 0)

    def add(self, request: LiveRequest) -> None:
        """Put a new request at its place in the line."""
        turn = max(self._turn, self._turns.get(request.tenant, 0.0)) + 1
        self._turns[request.tenant] = turn
        self._push(request, -request.priority, turn)

    def add_resumed(self, request: LiveRequest, dry_at: float) -> None:
        """Put a request whose listener has heard some of it, and runs dry at a time, before all new ones."""
        self._push(request, RESUMED, dry_at)

    def _push(self, request: LiveRequest, rank: int, turn: float) -> None:
        place = self.places[request.request_id] = next(self._order)
        self._tenants[request.request_id] = request.tenant
        self._sizes[request.tenant] = self._sizes.get(request.tenant, 0) + 1
        heap = self._heaps.setdefault(request.model, [])
        heapq.heappush(heap, (rank, turn, place, request.request_id))
        if len(heap) > 2 * len(self.places) + SLACK:
            heap[:] = [entry for entry in heap if self.places.get(entry[3]) == entry[2]]
            heapq.heapify(heap)

    def remove(self, request_id: str) -> None:
        """Take a request out; its entry is passed over when its turn comes."""
        if self.places.pop(request_id, None) is None:
            return
        tenant = self._tenants.pop(request_id)
        self._sizes[tenant] -= 1
        if not self._sizes[tenant]:
            del self._sizes[tenant]
            self._turns.pop(tenant, None)  # none of a tenant of which only resumed requests waited

    def first(self, model: str) -> str | None:
        """The next request for `model`, or None."""
        heap = self._heaps.get(model)
        while heap:
            _, _, place, request_id = heap[0]
            if self.places.get(request_id) == place:
                return request_id
            heapq.heappop(heap)
        return None

    def pop(self, model: str) -> str | None:
        """Take the next request for `model` out, if there is one."""
        request_id = self.first(model)
        if request_id is not None:
            rank, turn, _, _ = heapq.heappop(self._heaps[model])
            if rank != RESUMED:
                self._turn = max(self._turn, turn)
            self.remove(request_id)
        return request_id
