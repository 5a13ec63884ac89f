"""What workers say, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

from max_interfaces.messages import (
    Alive,
    Beat,
    ChunkHead,
    Delivery,
    Ended,
    Noted,
    Pace,
    Ready,
    Retire,
    Stop,
    encode_header,
)
from max_interfaces.status import GenerationStatus

from .adapters import AdapterBook
from .events import Action, Kill, Received, Send
from .ledger import Ledger
from .placement import Placement
from .reading import Reading
from .roster import Roster
from .table import Catalogue, LiveRequest, WorkerRecord

MISSING = 2  # signs of life, one after the other, without a request: then it is not on its way but lost


class WorkerMessages:
    """One method for each message of a worker's, and for its loss. Each returns what is to be sent."""

    def __init__(
        self,
        ledger: Ledger,
        roster: Roster,
        placement: Placement,
        reading: Reading,
        catalogue: Catalogue,
        adapters: AdapterBook,
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self._placement = placement
        self._reading = reading
        self._catalogue = catalogue
        self._adapters = adapters
        self.stale = 0  # chunks that came late, twice, or from an attempt that is over

    def delivered(self, event: Received, delivery: Delivery, now: float) -> list[Action]:
        """The hot path: note what every chunk brings, and pass the message on as it came."""
        worker = self._roster.workers.get(event.peer)
        if worker is None:
            return []
        self._roster.heard(worker, now)
        stale: list[int] = []
        after: list[Action] = []
        ended = False
        for index, head in enumerate(delivery.heads):
            request = self._ledger.requests.get(head.request_id)
            if (
                request is None
                or request.worker is not worker
                or request.attempt != head.attempt
                or request.next_seq != head.seq
                or len(request.tokens) != head.first_token
                or request.peer != delivery.peer
            ):
                stale.append(index)
                continue
            if not request.next_seq:
                request.first_sample = request.read_sample = head.first_sample  # what came before was another's
            request.next_seq += 1
            request.next_sample = head.first_sample + head.samples
            request.tokens.extend(head.tokens)
            if head.status is not GenerationStatus.ACTIVE:
                self._ledger.close(request)
                ended = True
                continue
            if not request.proven:
                after += self._placement.proved(request, now)
            if not request.begun:
                self._reading.begins(request, now)
            if request.next_sample > request.mark_sample or request.next_seq > request.mark_seq:
                after += self._reading.passed(request, now)
        actions: list[Action] = []
        if not stale:
            actions.append(Send(delivery.peer, delivery, event.payload, event.header))
        elif len(stale) < len(delivery.heads):
            fresh = Delivery(delivery.peer, delivery.heads, tuple(stale))
            actions.append(Send(delivery.peer, fresh, event.payload, encode_header(fresh)))
        actions += after
        if stale:
            self.stale += len(stale)
            actions += self._repeat_torn(worker, [delivery.heads[index] for index in stale], now)
        if ended and (self._ledger.waiting.places or self._ledger.suspects.places):
            actions += self._placement.assign(now)
        return actions

    def noted(self, peer: bytes, noted: Noted, now: float) -> list[Action]:
        """Requests have tokens that nobody hears of yet."""
        worker = self._roster.workers.get(peer)
        if worker is None:
            return []
        self._roster.heard(worker, now)
        actions: list[Action] = []
        torn: list[LiveRequest] = []
        for note in noted.notes:
            request = self._ledger.requests.get(note.request_id)
            if request is None or request.worker is not worker or request.attempt != note.attempt:
                continue
            if note.first_token > len(request.tokens):
                torn.append(request)
            elif note.first_token == len(request.tokens):
                request.tokens.extend(note.tokens)
                if not request.proven:
                    actions += self._placement.proved(request, now)
        return actions + self._repeat(torn, worker, now)

    def _repeat_torn(self, worker: WorkerRecord, heads: Iterable[ChunkHead], now: float) -> list[Action]:
        """Of the chunks not passed on, most are late or repeated; one from the future shows that another was lost."""
        torn: dict[str, LiveRequest] = {}
        for head in heads:
            request = self._ledger.requests.get(head.request_id)
            if request is not None and request.worker is worker and request.attempt == head.attempt:
                due = (request.next_seq, len(request.tokens))
                if (head.seq, head.first_token) > due:
                    torn[request.request_id] = request
        return self._repeat(list(torn.values()), worker, now)

    def _repeat(self, torn: list[LiveRequest], worker: WorkerRecord, now: float) -> list[Action]:
        if not torn:
            return []
        return self._placement.repeat(torn, f"the way to {worker.name} has lost too many messages", now)

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
        told = Ended(
            ended.request_id, ended.status, ended.kind, ended.message, ended.retry_after, ended.attempt, request.serial
        )
        return [Send(request.peer, told), *self._placement.assign(now)]

    def alive(self, peer: bytes, alive: Alive, now: float) -> list[Action]:
        """It lives, and may just have begun to. What it has is held against what it should have."""
        worker = self._roster.workers.get(peer)
        if worker is None:
            if self._roster.is_dead(alive.worker):
                return []
            if not alive.busy_s:  # it does not begin: we took it for lost, or another server had it
                return [Send(peer, Beat(known=False))]
            worker = self._roster.join(alive.worker, peer)
        self._roster.heard(worker, now, alive.busy_s)
        self._roster.told(worker, alive)
        if alive.busy_s:
            return []
        if not worker.credits:
            return [Send(peer, Beat(known=False))]  # that it is ready was lost
        self._catalogue.hear(worker.models, alive.voices)
        out_of_turn = alive.revision != worker.revision  # the answer to a list of adapters
        adapters = self._adapters.told(worker, alive)
        return adapters + self._compare(worker, alive, now, counts=not out_of_turn)

    def _compare(self, worker: WorkerRecord, alive: Alive, now: float, *, counts: bool) -> list[Action]:
        """Say again what a worker cannot have heard; a request that it does not know of goes on anew.

        Unless it `counts`, it may be that what it does not know of is on its way.
        """
        actions: list[Action] = []
        known: set[str] = set()
        for held in alive.held:
            request = self._ledger.requests.get(held.request_id)
            if request is None or request.worker is not worker or request.attempt != held.attempt:
                actions.append(Send(worker.peer, Stop(held.request_id, held.attempt)))
                continue
            known.add(held.request_id)
            request.missing = 0
            if request.resting != held.resting:
                actions.append(Send(worker.peer, Pace(held.request_id, held.attempt, request.resting)))
        for key in worker.leaving.keys() - {held.request_id for held in alive.held}:
            worker.leaving[key] += counts
            if worker.leaving[key] >= MISSING:  # one may have been sent before it was there at all
                del worker.leaving[key]
        lost: list[LiveRequest] = []
        for key in sorted(worker.running - known):
            request = self._ledger.requests[key]
            request.missing += counts
            if request.missing >= MISSING:
                lost.append(request)
        if lost:
            actions += self._repeat(lost, worker, now)
        else:
            actions += self._placement.assign(now)  # it may take more than before
        return actions

    def ready(self, peer: bytes, ready: Ready, now: float) -> list[Action]:
        """It can take requests."""
        worker = self._roster.workers.get(peer)
        if worker is None:
            if self._roster.is_dead(ready.worker):
                return []
            worker = self._roster.join(ready.worker, peer)
        strange = sorted({model.name for model in ready.models} - self._catalogue.expected)
        if strange:
            reason = f"this server serves {', '.join(self._catalogue.names)}, not {strange[0]}"
            return [*self.gone(worker, "left", now, broken=False), Send(peer, Retire(reason[:4096]))]
        worker.credits = 0  # until it is known what it serves now
        # It has nothing of what it may have had: it was started again, or we had been taken for lost.
        lost = self._placement.lose(worker, "was started again", now, broken=False)
        self._roster.heard(worker, now)
        self._roster.enlist(worker, ready)
        self._catalogue.known.update({model.name: model for model in ready.models})
        return lost + self._adapters.equip(worker) + self._placement.assign(now)

    def lost(self, worker: WorkerRecord, reason: str, now: float) -> list[Action]:
        """It is of no more use, but may still run. One that can be killed has nothing more to say."""
        if self._roster.is_own(worker):
            self._roster.bury(worker.name)
        return [Kill(worker.name, reason), *self.gone(worker, reason, now)]

    def gone(self, worker: WorkerRecord, reason: str, now: float, *, broken: bool = True) -> list[Action]:
        """It runs no more."""
        self._roster.leave(worker)
        adapters = self._adapters.lost(worker, broken=broken)
        return adapters + self._placement.lose(worker, reason, now, broken=broken)
