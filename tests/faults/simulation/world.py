"""A whole server with its workers and clients on a virtual clock, and everything that can happen to them.

The dispatcher, supervisor, worker core and demultiplexer are the real ones; sockets, processes and time are not. What
happens follows from the seed alone.
"""

from __future__ import annotations

import itertools
import math
import random
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from max_interfaces import FailureKind, GenerationStatus, LoRAOperation, LoRAStatus
from max_interfaces.messages import Adapt, Adapted, Ended, Header, Submit, Unfit
from max_interfaces.wire import Frame
from max_pipelines.server.dispatcher import Dispatcher
from max_pipelines.server.events import Event, Kill, PeerGone, Received, Send, Tick, WorkerExited, WorkersGivenUp
from max_pipelines.server.supervisor import GiveUp, Order, Spawn, Supervisor

from .client import Call, SimulatedClient
from .clock import Clock
from .ends import Ends
from .network import DELAY_S, LONGEST_TRANSIT_S, Network
from .pipeline import CREDITS, FRAGILE, KILLS, Sound, Weights, Wrong
from .weather import NO_LOSSES, WEATHERS, Weather
from .worker import MODEL, STEP_S, SimulatedWorker

SERVER = "server"
ACTIVE, STANDBY = 2, 1
CALLS = 22
TROUBLE_S = 12.0  # for so long things happen; then time passes until all must have ended
QUIET_S = 60.0
DEATH_S = 0.005  # from a death until the supervisor knows, who has read by then what was sent before
AUDIT_S = 0.5
FORGOTTEN_S = 10.0  # two signs of life, some of which may be lost, too, or cut off
ANSWERED = (GenerationStatus.END_OF_SEQUENCE, None)
ADAPTERS = ("ann", "bob")
UNKNOWN = 0.1
CALLED, FAULTABLE = 20, 200  # of calls and messages, so many at least, while things happen


@dataclass(eq=False)
class Stay:
    """An adapter, from when it was known to be loaded until it was to be unloaded, and was."""

    weights: Weights
    since: float = math.inf
    until: float = math.inf
    over: float = math.inf


@dataclass
class World:
    """Everybody. `history` is a number for all that was said, and when."""

    seed: int
    weather: Weather
    folder: str
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.network = Network(self.clock, self.chance, self.weather.losses)
        self.dispatcher = Dispatcher(self.weather.limits, [MODEL], ACTIVE)
        self.supervisor = Supervisor(ACTIVE + STANDBY)
        self.workers: dict[str, SimulatedWorker] = {}
        self.parties: dict[bytes, SimulatedWorker | SimulatedClient] = {}
        self.clients: list[SimulatedClient] = []
        self.ends = Ends()
        self.refused = 0  # calls for which there was no room
        self.answered = 0  # calls that had their whole sound
        self.faultable = 0  # messages while things happen: each a chance for a fault
        self.crashes = 0
        self.history = 0
        self.deadly = 0  # adapters that kill, which somebody has asked for
        self._worn_out: set[str] = set()  # requests that ended as they had lost too many workers, whoever broke them
        self._keeper: SimulatedClient | None = None  # who asks for adapters
        self._numbers = itertools.count(1)
        self._busy: set[str] = set()  # names that it waits for an answer about
        self._there: dict[str, Stay] = {}  # names that it knows to be loaded
        self._stays: dict[str, list[Stay]] = defaultdict(list)
        self._spawned: set[str] = set()
        self._missed: dict[str, int] = {}  # how many audits in a row have missed a request
        self._due: float = 0.0
        self._obey(self.supervisor.tick(self.clock.now))

    # -- the server's shell ------------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        """The dispatcher takes an event, and what it wants done is."""
        for action in self.dispatcher.handle(event, self.clock.now):
            match action:
                case Send(peer, message, payload):
                    self._send(peer, message, payload)
                case Kill(name, _):
                    if name in self.workers:
                        self.workers[name].kill()
        self._check_bounds()
        self._wake()

    def _wake(self) -> None:
        """See that the dispatcher is woken in time."""
        due = self.dispatcher.wake
        if due < self._due or self._due <= self.clock.now:
            self._due = due
            if due < float("inf"):
                self.clock.at(due, lambda: self._tick(due))

    def _tick(self, due: float) -> None:
        if due == self._due:
            self._due = 0.0
            self.feed(Tick())

    def _send(self, peer: bytes, message: Header, payload: Sequence[Frame]) -> None:
        self.ends.told(peer, message)
        if isinstance(message, Ended) and message.kind is FailureKind.OVERLOADED:
            self.refused += 1
            self._check_full()
        if isinstance(message, Ended) and "the request has lost" in message.message:
            self._worn_out.add(message.request_id)
        party = self.parties.get(peer)
        if party is None or not party.connected:
            self.clock.after(0.0, lambda: self.feed(PeerGone(peer, "is gone")))
            return
        self.network.send(SERVER, party.name, lambda: party.hear(message, payload))

    def hear(self, source: str, message: Header, payload: Sequence[Frame]) -> None:
        """A party says something to the server."""
        self.network.send(source, SERVER, lambda: self._received(source, message, payload))

    def _received(self, source: str, message: Header, payload: Sequence[Frame]) -> None:
        self.history = crc32(f"{self.clock.now} {source} {type(message).__name__}".encode(), self.history)
        if isinstance(message, Submit):
            self.ends.submitted(source.encode(), message)
        self.feed(Received(source.encode(), message, b"", payload))
        if isinstance(message, Unfit):
            self._obey(self.supervisor.unfit(source, message.message))
        elif type(message).__name__ == "Ready":
            self.supervisor.ready(source)

    def _obey(self, orders: Sequence[Order]) -> None:
        for order in orders:
            match order:
                case Spawn(name):
                    load_s = 0.3 + self.chance.random()
                    first = len(self._spawned) < ACTIVE + STANDBY
                    self._spawned.add(name)
                    worker = SimulatedWorker(name, self.clock, load_s, self.hear, self._died, self.folder, first=first)
                    self.workers[name] = self.parties[worker.peer] = worker
                case GiveUp(reason):
                    self.feed(WorkersGivenUp(reason))

    def _died(self, worker: SimulatedWorker) -> None:
        self.crashes += 1
        self.clock.after(DEATH_S, lambda: self._exited(worker.name))

    def _exited(self, name: str) -> None:
        del self.workers[name]
        self.feed(WorkerExited(name, "was killed"))
        self._obey(self.supervisor.exited(name, "was killed", self.clock.now))
        wake = self.supervisor.wake
        if wake < float("inf"):
            self.clock.at(wake, lambda: self._obey(self.supervisor.tick(self.clock.now)))

    # -- what happens ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let it all happen, then let time pass, then look."""
        for number in range(3):
            self._new_client(number)
        kinds = self._kinds()
        for number in range(CALLS):
            self._later(lambda number=number: self._call(number, kinds[number]))
        weather = self.weather
        for count, happening in (
            (weather.crashes, self._crash),
            (weather.hangs, self._hang),
            (weather.cuts, self._cut),
            (weather.cancels, self._cancel),
            (weather.goings, self._go),
            (weather.adaptations, self._adapt),
        ):
            for _ in range(count):
                self._later(happening)
        self.clock.after(AUDIT_S, self._audit)
        self.clock.run_until(self.clock.now + TROUBLE_S)
        self.faultable = self.network.messages
        self.network.losses = NO_LOSSES
        self.clock.run_until(self.clock.now + QUIET_S)
        self._look()

    def _later(self, happening: object) -> None:
        assert callable(happening)
        self.clock.after(self.chance.random() * TROUBLE_S * self.weather.rush, happening)

    def _kinds(self) -> list[Sound]:
        sounds = []
        for number in range(CALLS):
            length = self.chance.randrange(1, 30)
            where = self.chance.choice([0, 1, 2, 1 + self.chance.randrange(length)])
            if number < self.weather.killers:
                sounds.append(Sound(length, kills_at=min(where, length)))
            elif number < self.weather.killers + self.weather.breakers:
                sounds.append(Sound(length, raises_at=max(1, min(where, length))))
            elif number < self.weather.killers + self.weather.breakers + self.weather.hangers:
                sounds.append(Sound(length, hangs_at=min(where, length)))
            else:
                sounds.append(Sound(length))
        return sounds

    def _new_client(self, number: int) -> None:
        client = SimulatedClient(f"client-{number}", self.clock, self.hear)
        self.clients.append(client)
        self.parties[client.peer] = client

    def _call(self, number: int, sound: Sound) -> None:
        chance, weather = self.chance, self.weather
        draw = chance.random()
        pace = 0.0 if draw < weather.never else 1.0 if draw < weather.never + weather.slow else 1e9
        deadline = self.clock.now + (chance.random() if chance.random() < weather.short else 45.0)
        client = chance.choice([client for client in self.clients if client.alive])
        there = [None, *sorted(self._there)]  # and now and then whatever there may be
        adapter = chance.choice(ADAPTERS if chance.random() < UNKNOWN else there)
        client.call(Call(f"call-{number}", sound, chance.randrange(2**30), deadline, pace, adapter))

    def _adapt(self) -> None:
        """Load an adapter if it is not there, unload it if it is."""
        name = self.chance.choice([name for name in ADAPTERS if name not in self._busy] or [""])
        keeper = self.clients[2]
        if not name or not self.dispatcher.catalogue.complete:
            return
        self._busy.add(name)
        number = next(self._numbers)
        if name in self._there:
            stay = self._there.pop(name)
            stay.until = self.clock.now
            unload = Adapt(number, MODEL, LoRAOperation.UNLOAD, name)
            keeper.adapt(unload, lambda answer: self._unloaded(name, answer, stay))
            return
        draw, weather = self.chance.random(), self.weather
        harm = KILLS if draw < weather.deadly else FRAGILE if draw < weather.deadly + weather.fragile else ""
        self.deadly += harm == KILLS
        stay = Stay(Weights(number, harm))
        self._stays[name].append(stay)
        (Path(self.folder) / stay.weights.folder).mkdir()
        load = Adapt(number, MODEL, LoRAOperation.LOAD, name, stay.weights.folder)
        keeper.adapt(load, lambda answer: self._loaded(name, answer, stay))

    def _unloaded(self, name: str, answer: Adapted, stay: Stay) -> None:
        assert answer.status is LoRAStatus.SUCCESS, f"{name} could not be unloaded: {answer.message}"
        self._busy.discard(name)
        stay.over = self.clock.now

    def _loaded(self, name: str, answer: Adapted, stay: Stay) -> None:
        self._busy.discard(name)
        if answer.status is LoRAStatus.SUCCESS:
            assert stay.weights.harm != KILLS, "nobody can have loaded it"
            stay.since = self.clock.now
            self._there[name] = stay
            return
        excused = (
            stay.weights.harm or self.crashes or self.weather.hangs or self.weather.cuts or self.dispatcher.problem
        )
        assert excused, f"{name} could not be loaded: {answer.message}"

    def _crash(self) -> None:
        """A worker that has something to do dies, more likely than another."""
        alive = sorted(name for name, worker in self.workers.items() if worker.alive)
        busy = [name for name in alive if self.workers[name].core.in_flight]
        if alive:
            self.workers[self.chance.choice(busy or alive)].kill()

    def _hang(self) -> None:
        alive = sorted(name for name, worker in self.workers.items() if worker.alive)
        if alive:
            self.workers[self.chance.choice(alive)].hang(self.chance.choice([0.5, 2.0, 20.0]))

    def _cut(self) -> None:
        names = sorted(party.name for party in self.parties.values() if party.alive)
        self.network.cut(self.chance.choice(names), 2.0)

    def _cancel(self) -> None:
        calls = [(client, call) for client in self.clients for call in client.calls if not call.ends]
        if calls:
            client, call = self.chance.choice(calls)
            self.chance.choice([client.cancel, client.leave])(call)
            if self.weather.calm:
                self.clock.after(2 * LONGEST_TRANSIT_S + STEP_S, lambda: self._check_stopped(call))

    def _go(self) -> None:
        client = self.chance.choice(self.clients[:2])  # one stays
        client.go(self.chance.choice(["politely", "killed", "frozen"]))

    # -- what must hold ----------------------------------------------------------------------------------------------

    def _check_bounds(self) -> None:
        desk = self.dispatcher
        new = sum(not desk.requests[key].attempt for key in desk.waiting.places)
        assert len(desk.requests) <= self.weather.limits.max_requests, f"{len(desk.requests)} live"
        assert new <= self.weather.limits.max_waiting, f"{new} wait"
        for worker in desk.workers.values():
            assert len(worker.running) <= CREDITS, "more than the credits"
            assert not (worker.standby and worker.running), "work for one that stands by"
            unproven = [desk.requests[key] for key in worker.running if not desk.requests[key].proven]
            assert len(unproven) <= 1 or not any(one.broken for one in unproven), "who is to blame, should it break?"

    def _check_full(self) -> None:
        desk, limits = self.dispatcher, self.weather.limits
        full = len(desk.requests) >= limits.max_requests or len(desk.waiting) >= limits.max_waiting
        assert full, "a call was refused though there was room"

    def _check_stopped(self, call: Call) -> None:
        """Within a step nobody works for who wants nothing any more, but who hangs with it."""
        able = [worker for worker in self.workers.values() if worker.stuck_until <= self.clock.now]
        working = [worker.name for worker in able if call.key in worker.core._running]
        assert not working, f"{call.key} was cancelled and runs on at {working}"

    def _audit(self) -> None:
        """Whom the dispatcher holds for running must run, but for what has just been lost on the way."""
        missed = set()
        for key, request in self.dispatcher.requests.items():
            worker = None if request.worker is None else self.workers.get(request.worker.name)
            if worker is not None and worker.alive and worker.stuck_until <= self.clock.now:
                missed |= {key} if key not in worker.core._running else set()
        self._missed = {key: self._missed.get(key, 0) + 1 for key in missed}
        late = [key for key, times in self._missed.items() if times * AUDIT_S > FORGOTTEN_S]
        assert not late, f"{late} should run and do not"
        for client in self.clients:
            forgotten_at = client.gone_at + self.weather.limits.lease_s + LONGEST_TRANSIT_S + DELAY_S
            held = client.peer in self.dispatcher.clients
            assert not (held and self.clock.now > forgotten_at), f"{client.name} has long been silent"
        self.clock.after(AUDIT_S, self._audit)

    def _look(self) -> None:
        calls = [call for client in self.clients for call in client.calls]
        assert len(calls) >= CALLED, f"only {len(calls)} calls"
        assert self.faultable >= FAULTABLE, f"only {self.faultable} messages could be lost"
        for client in self.clients:
            for call in client.calls:
                if client.alive and not call.left:
                    self._look_at(client, call)
        self.answered = sum(call.ends[:1] == [ANSWERED] for call in calls)
        assert self.answered + self.refused >= self.weather.answered, f"only {self.answered} calls were answered"
        self._look_for_leaks()

    def _look_at(self, client: SimulatedClient, call: Call) -> None:
        while call.inbox is not None and call.inbox.items:
            client._take(call, call.inbox)
        assert len(call.ends) == 1, f"{call.key} ended {len(call.ends)} times"
        self._look_at_weights(call)
        status, kind = call.ends[0]
        if status is GenerationStatus.END_OF_SEQUENCE:
            assert not call.sound.loses_workers, f"{call.key} breaks its workers and was answered"
            return
        assert kind is not FailureKind.STALLED or call.pace == 0.0, f"{call.key} was read, and ended as stalled"
        if kind is FailureKind.UNKNOWN_MODEL:
            self._look_at_refusal(call)
        elif self.weather.calm and not self.dispatcher.problem:
            self._look_at_failure(call, status, kind)

    def _look_at_refusal(self, call: Call) -> None:
        """Whoever names an adapter that is there from before until after, runs, unless nobody could load it again."""
        stays = self._stays[call.adapter or ""]
        there = [stay for stay in stays if stay.since <= call.begun_at and call.ended_at <= stay.until]
        assert not there or there[0].weights.harm == FRAGILE, f"{call.key}: {call.adapter} was there"

    def _look_at_weights(self, call: Call) -> None:
        """Nobody is heard with other weights than those that the adapter's name stood for meanwhile."""
        stays = self._stays[call.adapter or ""]
        may_be = {stay.weights.number for stay in stays if stay.over > call.begun_at} if call.adapter else {0}
        assert call.weights is None or call.weights in may_be, f"{call.key} was heard with {call.weights}"

    def _look_at_failure(self, call: Call, status: GenerationStatus, kind: FailureKind | None) -> None:
        """Where nothing is lost, a call fails only for a reason of its own."""
        reasons = {
            FailureKind.DEADLINE_EXCEEDED: call.deadline < self.clock.now - QUIET_S + 1.0,
            FailureKind.STALLED: call.pace == 0.0,
            FailureKind.OVERLOADED: self.refused > 0,
            FailureKind.WORKER_ERROR: call.sound.raises_at >= 0,
            FailureKind.WORKER_DIED: call.sound.loses_workers or self._may_be_mistaken(call),
            None: call.cancelled and status is GenerationStatus.CANCELLED,
        }
        assert reasons.get(kind, False), f"{call.key} ended as {status}, {kind}"

    def _may_be_mistaken(self, call: Call) -> bool:
        """Whether something else may have broken a worker just while an innocent was tried there alone.

        One that hangs is given requests until it is known to, and one that is killed by a request which had made
        progress there dies with whoever is tried. Where no request is cancelled and no adapter kills,
        whoever breaks workers is found out before those beside it have lost too many.
        """
        weather = self.weather
        if call.key in self._worn_out and not (weather.cancels or weather.deadly):
            return False
        return self.crashes >= 2 and (weather.crashes > 0 or weather.hangers > 1 or weather.killers > 1)

    def _look_for_leaks(self) -> None:
        desk = self.dispatcher
        harmful = self.weather.killers + self.weather.hangers
        most = (
            self.weather.crashes + 3 * harmful + self.deadly
        )  # one while others could be it, two that it is blamed for
        assert not self.weather.calm or self.crashes <= most, f"{self.crashes} workers were broken"
        assert not desk.requests, f"left in the table: {sorted(desk.requests)}"
        assert not desk.clients
        assert not len(desk.waiting)
        assert not len(desk.suspects)
        assert not desk._ledger.bytes
        assert not desk._ledger.resting
        for worker in desk.workers.values():
            assert (worker.running, worker.bytes, worker.unproven, worker.trial) == (set(), 0, 0, set())
        for simulated in self.workers.values():
            assert not simulated.core.in_flight, f"{simulated.name} still has {sorted(simulated.core._running)}"
            assert not simulated.pipeline.states
            assert not simulated.core.links.all[0].running
        self._look_at_adapters()
        # What is on its way when a request is to rest, and a chunk for each worker that it loses meanwhile.
        bound = self.weather.limits.ahead_s + 1.0 + 0.4 * self.crashes
        if not self.weather.calm:
            bound += 3.0  # that it is to rest may be lost, and is said again at the next sign of life
        assert all(client.most_behind <= bound for client in self.clients), "a reader was flooded"

    def _look_at_adapters(self) -> None:
        """In the end everybody has what is to be there, and nothing else."""
        assert not self.clients[2].adapting, "a question about an adapter has no answer"
        right = {name: stay.weights for name, stay in self._there.items()}
        for worker in self.workers.values():
            loaded = worker.pipeline.adapters
            assert all(right.get(name) == Weights(loaded.loaded[name], right[name].harm) for name in loaded.names)
            missing = {name for name in right if name not in loaded.names}
            assert all(right[name].harm == FRAGILE for name in missing), f"{worker.name} has no {missing}"


def simulate(seed: int) -> World:
    """The world of a seed, run to its end. AssertionError if something was wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(seed, WEATHERS[seed % len(WEATHERS)], folder)
        try:
            world.run()
        except Wrong as problem:
            raise AssertionError(str(problem)) from None
    return world


def failures_of(seeds: Sequence[int]) -> list[str]:
    """What was wrong with which of these seeds' worlds."""
    failures = []
    for seed in seeds:
        try:
            simulate(seed)
        except Exception as problem:
            failures.append(f"seed {seed}: {type(problem).__name__}: {problem}")
    return failures
