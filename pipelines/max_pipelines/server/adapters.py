"""Which adapters are to be loaded: what clients have asked for, and what workers have made of it."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from max_interfaces.lora import LoRAOperation, LoRAStatus
from max_interfaces.messages import MAX_ADAPTERS, Adapt, Adapted, Adapter, Alive, Beat, Equip, ModelInfo

from ..adapters import OFF
from .events import Action, Send
from .roster import Roster
from .table import Catalogue, LiveRequest, WorkerRecord

REMEMBERED = 1024  # answers, for who asks again: a question, or its answer, may be late or lost
Asker: TypeAlias = tuple[bytes, int]  # a client, and the number of its question
Refusal: TypeAlias = tuple[LoRAStatus, str]


class WantedAdapter(msgspec.Struct, eq=False):
    """An adapter of a model, and who has asked for it. Requests may name it once it is `loaded` everywhere.

    Before it has been `tried`, by the worker `trial`, no other is told of it: it might break them all at once.
    """

    model: str
    adapter: Adapter
    asker: Asker
    trial: bytes = b""
    tried: bool = False
    loaded: bool = False


class Unloading(msgspec.Struct, frozen=True, eq=False):
    """An adapter of a model that no list has from number `revision` on."""

    model: str
    revision: int


class AdapterBook:
    """What every worker of a model shall have loaded, beside what the config names. Each method returns what to send.

    A worker is told the whole list, with a number, when it is ready and at each change; its signs of life say what
    it has made of it, and one that is behind is told again. What is new is tried by one of them first. What one of them
    refuses, or does not survive, is taken back from all.
    """

    def __init__(self, roster: Roster, catalogue: Catalogue) -> None:
        self._roster = roster
        self._catalogue = catalogue
        self._generations = itertools.count(1)
        self._wanted: dict[tuple[str, str], WantedAdapter] = {}  # by model and name
        self._unloading: dict[Asker, Unloading] = {}
        self._outcomes: OrderedDict[Asker, Adapted] = OrderedDict()
        self.revision = 0  # of the list

    def __len__(self) -> int:
        return len(self._wanted)

    # -- what clients want ---------------------------------------------------------------------------------------

    def asked(self, peer: bytes, adapt: Adapt, unable: str = "") -> list[Action]:
        """Load or unload one. `unable` says why the server does neither any more, if that is so."""
        asker = peer, adapt.serial
        if asker in self._outcomes:
            return [Send(peer, self._outcomes[asker])]
        if asker in self._unloading or any(wanted.asker == asker for wanted in self._loading):
            return []  # asked again, while it is done
        refusal = self._refusal(adapt, unable)
        if refusal is not None:
            return [self._answer(asker, *refusal)]
        if adapt.operation is LoRAOperation.LOAD:
            adapter = Adapter(next(self._generations), adapt.name, adapt.path)
            self._wanted[adapt.model, adapt.name] = WantedAdapter(adapt.model, adapter, asker)
            return self.settle()
        del self._wanted[adapt.model, adapt.name]
        told = self._tell_all()
        self._unloading[asker] = Unloading(adapt.model, self.revision)
        return told + self.settle()

    def give_up(self, reason: str) -> list[Action]:
        """No worker will come any more that could load anything."""
        actions: list[Action] = []
        for wanted in self._loading:
            actions.append(self._take_back(wanted, LoRAStatus.LOAD_ERROR, reason))
        return actions + self.settle()

    def _refusal(self, adapt: Adapt, unable: str) -> Refusal | None:
        """Why it cannot be, as far as no worker need be asked."""
        loads, name = adapt.operation is LoRAOperation.LOAD, adapt.name
        failed = LoRAStatus.LOAD_ERROR if loads else LoRAStatus.UNLOAD_ERROR
        info = self._catalogue.known.get(adapt.model)
        if unable or info is None:
            return failed, unable or f"no model {adapt.model!r} is ready here"
        if not info.loads_adapters:
            return failed, OFF
        wanted = self._wanted.get((adapt.model, name))
        if loads:
            if name in info.adapters or name in self._catalogue or wanted is not None:
                what = "is being loaded" if wanted is not None and not wanted.loaded else "is loaded already"
                what = "is the name of a model" if name in self._catalogue else what
                return LoRAStatus.LOAD_NAME_EXISTS, f"{name!r} {what}; choose another name"
            if len(self._wanted) >= MAX_ADAPTERS:
                return failed, f"{MAX_ADAPTERS} adapters are loaded, the most that may be; unload one"
        elif name in info.adapters:
            return failed, f"{name!r} is one of the config's own adapters, which stay while the server runs"
        elif wanted is None or not wanted.loaded:
            what = "is loaded" if wanted is None else "is loaded yet"
            return LoRAStatus.UNLOAD_NAME_NONEXISTENT, f"no adapter of the name {name!r} {what}"
        return None

    # -- what workers have made of it ----------------------------------------------------------------------------

    def equip(self, worker: WorkerRecord) -> list[Action]:
        """A worker is ready, and has none of them."""
        worker.revision, worker.adapters, worker.refused = 0, frozenset(), {}
        told: list[Action] = [self._list(worker)] if self.revision else []
        return told + self.settle()  # it may be the first that can try something

    def told(self, worker: WorkerRecord, alive: Alive) -> list[Action]:
        """A worker that is ready says what it has."""
        if alive.revision == self.revision == 0:  # nearly always
            return []
        worker.revision = alive.revision
        worker.adapters = frozenset(one.generation for one in alive.fitted if one.status is LoRAStatus.SUCCESS)
        worker.refused = {one.generation: one for one in alive.fitted if one.status is not LoRAStatus.SUCCESS}
        if alive.revision > self.revision:  # of a server that was at this address before
            return [Send(worker.peer, Beat(known=False))]
        behind: list[Action] = [self._list(worker)] if alive.revision < self.revision else []
        return behind + self.settle()

    def lost(self, worker: WorkerRecord, *, broken: bool) -> list[Action]:
        """A worker is no more. If it was `broken`, what it was to load may be why, and is not tried on others."""
        actions: list[Action] = []
        for wanted in self._loading:
            told = wanted.tried or wanted.trial == worker.peer
            if broken and told and wanted.model in worker.models and self._is_open(wanted, worker):
                text = f"{worker.name} was lost while it loaded {wanted.adapter.name!r}"
                actions.append(self._take_back(wanted, LoRAStatus.LOAD_ERROR, text))
        return actions + (self._tell_all() if actions else []) + self.settle()

    def settle(self) -> list[Action]:
        """Go on with what is being loaded and unloaded, as far as workers have done what they were told."""
        actions: list[Action] = []
        changed = False
        for wanted in self._loading:
            workers, generation = self._ready(wanted.model), wanted.adapter.generation
            refused = next((worker.refused[generation] for worker in workers if generation in worker.refused), None)
            if refused is not None:
                actions.append(self._take_back(wanted, refused.status, refused.message))
                changed = True
            elif workers and all(generation in worker.adapters for worker in workers):
                wanted.tried = wanted.loaded = True
                actions.append(self._answer(wanted.asker))
            elif workers and not wanted.tried:
                changed |= self._try(wanted, workers)
        for asker, unloading in list(self._unloading.items()):
            if all(worker.revision >= unloading.revision for worker in self._ready(unloading.model)):
                del self._unloading[asker]
                actions.append(self._answer(asker))
        return actions + (self._tell_all() if changed else [])

    def _try(self, wanted: WantedAdapter, workers: Sequence[WorkerRecord]) -> bool:
        """Have one worker try an adapter, one that stands by if there is any. Whether the list is another now."""
        first = next((worker for worker in workers if worker.peer == wanted.trial), None)
        if first is not None:
            wanted.tried = wanted.adapter.generation in first.adapters
            return wanted.tried
        wanted.trial = min(workers, key=lambda worker: (not worker.standby, len(worker.running), worker.name)).peer
        return True

    @property
    def _loading(self) -> list[WantedAdapter]:
        return [wanted for wanted in self._wanted.values() if not wanted.loaded]

    def _is_open(self, wanted: WantedAdapter, worker: WorkerRecord) -> bool:
        generation = wanted.adapter.generation
        return bool(worker.credits) and generation not in worker.adapters and generation not in worker.refused

    def _ready(self, model: str) -> list[WorkerRecord]:
        return [worker for worker in self._roster.workers.values() if worker.credits and model in worker.models]

    def _tell_all(self) -> list[Action]:
        """The list is another now."""
        self.revision += 1
        return [self._list(worker) for worker in self._roster.workers.values() if worker.credits]

    def _list(self, worker: WorkerRecord) -> Send:
        ours = [wanted for wanted in self._wanted.values() if wanted.model in worker.models]
        told = tuple(wanted.adapter for wanted in ours if wanted.tried or wanted.trial == worker.peer)
        return Send(worker.peer, Equip(self.revision, told))

    def _take_back(self, wanted: WantedAdapter, status: LoRAStatus, message: str) -> Action:
        """The next list does not have it; the caller has it told to all."""
        del self._wanted[wanted.model, wanted.adapter.name]
        return self._answer(wanted.asker, status, message)

    def _answer(self, asker: Asker, status: LoRAStatus = LoRAStatus.SUCCESS, message: str = "") -> Send:
        peer, serial = asker
        adapted = self._outcomes[asker] = Adapted(serial, status, message[:4096])
        if len(self._outcomes) > REMEMBERED:
            self._outcomes.popitem(last=False)
        return Send(peer, adapted)

    # -- what requests run with ----------------------------------------------------------------------------------

    def described(self, info: ModelInfo) -> ModelInfo:
        """A model with all its adapters that may be named."""
        ours = [wanted for wanted in self._wanted.values() if wanted.loaded and wanted.model == info.name]
        loaded = {wanted.adapter.name for wanted in ours}
        return replace(info, adapters=tuple(sorted({*info.adapters, *loaded})))

    def chosen(self, model: str, names: Sequence[str]) -> tuple[Adapter, ...]:
        """What a new request runs with, of all that was loaded while serving."""
        found = [self._wanted.get((model, name)) for name in names]
        return tuple(wanted.adapter for wanted in found if wanted is not None and wanted.loaded)

    def missing(self, model: str, names: Sequence[str]) -> str:
        """Why a new request cannot run with these, "" if it can. Until a worker is ready, none are known."""
        info = self._catalogue.known.get(model)
        there = () if info is None else self.described(info).adapters
        missing = [name for name in names if name not in there]
        loaded = ", ".join(there) or "none"
        return f"no adapter {missing[0]!r} is loaded for {model!r}; loaded: {loaded}" if missing else ""

    def hopeless(self, request: LiveRequest) -> str:
        """Why a request that has no worker will find none with what it runs with, "" if it may."""
        for adapter in request.adapters:
            wanted = self._wanted.get((request.model, adapter.name))
            if wanted is None or wanted.adapter.generation != adapter.generation:
                return f"the adapter {adapter.name!r} was unloaded before the request could go on"
            workers = [worker for worker in self._ready(request.model) if not worker.standby]
            if workers and all(adapter.generation in worker.refused for worker in workers):
                why = workers[0].refused[adapter.generation].message
                return f"no worker could load the adapter {adapter.name!r} again: {why}"
        return ""
