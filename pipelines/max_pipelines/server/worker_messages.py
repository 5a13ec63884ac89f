"""What workers say, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

from max_interfaces.messages import Alive, ChunkHead, Delivery, Ended, Ready, Retire, encode_header
from max_interfaces.status import FailureKind, GenerationStatus

from .events import Action, Kill, Received, Send
from .ledger import Ledger
from .placement import Placement
from .roster import Roster
from .table import Catalogue, LiveRequest, WorkerRecord


class WorkerMessages:
    """One method for each message of a worker's, and for its loss. Each returns what is to be sent."""

    def __init__(self, ledger: Ledger, roster: Roster, placement: Placement, catalogue: Catalogue) -> None:
        self._ledger = ledger
        self._roster = roster
        self._placement = placement
        self._catalogue = catalogue

    def delivered(self, event: Received, delivery: Delivery, now: float) -> list[Action]:
        """The hot path: note what every chunk brings, and pass the message on as it came."""
        worker = self._roster.workers.get(event.peer)
        if worker is None:
            return []
        self._roster.heard(worker, now)
        stale: list[int] = []
        ended: list[LiveRequest] = []
        for index, head in enumerate(delivery.heads):
            request = self._ledger.requests.get(head.request_id)
            if (
                request is None
                or request.worker is not worker
                or request.attempt != head.attempt
                or request.next_seq != head.seq
            ):
                stale.append(index)
                continue
            request.next_seq += 1
            request.next_sample = head.first_sample + head.samples
            request.tokens.extend(head.tokens)
            if head.status is not GenerationStatus.ACTIVE:
                self._ledger.close(request)
                ended.append(request)
        actions: list[Action] = []
        if not stale:
            actions.append(Send(delivery.peer, delivery, event.payload, event.header))
        elif len(stale) < len(delivery.heads):
            fresh = Delivery(delivery.peer, delivery.heads, tuple(stale))
            actions.append(Send(delivery.peer, fresh, event.payload, encode_header(fresh)))
        if stale:
            actions += self._end_torn(worker, [delivery.heads[index] for index in stale])
        if ended and self._ledger.waiting:
            actions += self._placement.assign()
        return actions

    def _end_torn(self, worker: WorkerRecord, heads: Iterable[ChunkHead]) -> list[Action]:
        """Of the chunks not passed on, most are late or repeated; one from the future shows that another was lost."""
        torn = {
            request.request_id: request
            for head in heads
            if (request := self._ledger.requests.get(head.request_id)) is not None
            and request.worker is worker
            and request.attempt == head.attempt
            and head.seq > request.next_seq
        }
        message = f"a chunk was lost on the way from {worker.name}"
        return self._placement.end(list(torn.values()), GenerationStatus.FAILED, FailureKind.WORKER_ERROR, message)

    def ended(self, peer: bytes, ended: Ended, now: float) -> list[Action]:
        """A request ended without a last chunk."""
        worker = self._roster.workers.get(peer)
        request = self._ledger.requests.get(ended.request_id)
        if worker is None:
            return []
        self._roster.heard(worker, now)
        if request is None or request.worker is not worker or request.attempt != ended.attempt:
            return []
        self._ledger.close(request)
        return [Send(request.peer, ended), *self._placement.assign()]

    def alive(self, peer: bytes, alive: Alive, now: float) -> list[Action]:
        """It lives, and may just have begun to."""
        worker = self._roster.workers.get(peer)
        if worker is None:
            if self._roster.is_dead(alive.worker):
                return []
            if not alive.busy_s:  # it does not begin: we took it for lost, or another server had it
                return [Send(peer, Retire())]
            worker = self._roster.join(alive.worker, peer)
        self._roster.heard(worker, now + alive.busy_s)
        return []

    def ready(self, peer: bytes, ready: Ready, now: float) -> list[Action]:
        """It can take requests."""
        worker = self._roster.workers.get(peer)
        if worker is None:
            return [] if self._roster.is_dead(ready.worker) else [Send(peer, Retire())]
        strange = sorted({model.name for model in ready.models} - self._catalogue.expected)
        if strange:
            reason = f"this server serves {', '.join(self._catalogue.names)}, not {strange[0]}"
            return [*self.gone(worker, "left"), Send(peer, Retire(reason[:4096]))]
        again, worker.credits = bool(worker.credits), 0  # until it is known what it serves now
        lost = self._placement.lose(worker, "was started again") if again else []
        self._roster.heard(worker, now)
        worker.models = frozenset(model.name for model in ready.models)
        worker.credits = ready.credits
        self._catalogue.known.update({model.name: model for model in ready.models})
        return lost + self._placement.assign()

    def lost(self, worker: WorkerRecord, reason: str) -> list[Action]:
        """It is of no more use, but may still run."""
        return [Kill(worker.name, reason), *self.gone(worker, reason)]

    def gone(self, worker: WorkerRecord, reason: str) -> list[Action]:
        """It runs no more."""
        self._roster.leave(worker)
        return self._placement.lose(worker, reason)
