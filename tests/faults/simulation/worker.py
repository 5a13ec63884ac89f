"""A worker process as the simulation has it: the real core, driven by the virtual clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from max_interfaces import AudioGenerationRequest, PipelineTask
from max_interfaces.messages import WorkerMessage
from max_interfaces.wire import Frame
from max_pipelines.registry import ServedPipeline
from max_pipelines.worker.core import WorkerCore

from .clock import Clock
from .pipeline import CREDITS, RATE, Crash, Hang, SoundAdapters, SoundPipeline

STEP_S = 0.05
HEARTBEAT_S = 1.0
MODEL = "voice"

Say = Callable[[str, WorkerMessage, Sequence[Frame]], None]


class SimulatedWorker:
    """Loads for a while, then serves until it dies. `say` sends a message, `died` tells of its end."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        load_s: float,
        say: Say,
        died: Callable[[SimulatedWorker], None],
        folder: str,
        *,
        first: bool,
    ) -> None:
        self.name = name
        self.peer = name.encode()
        self.pipeline = SoundPipeline(SoundAdapters(first))
        self.alive = True
        self.stuck_until = 0.0
        served = ServedPipeline(
            self.pipeline,
            AudioGenerationRequest,
            PipelineTask.AUDIO_GENERATION,
            CREDITS,
            sample_rate=RATE,
            adapters=self.pipeline.adapters,
        )
        self.core = WorkerCore(served, MODEL, name, supervised=True, adapter_folder=folder)
        self._clock = clock
        self._say = say
        self._died = died
        self._stepping = False
        _, alive, _ = self.core.alive(0, busy_s=60.0)
        say(name, alive, ())
        clock.after(load_s, self._ready)

    @property
    def connected(self) -> bool:
        """Whether what is sent to it arrives anywhere."""
        return self.alive

    def kill(self) -> None:
        """It is no more."""
        if self.alive:
            self.alive = False
            self._died(self)

    def hang(self, seconds: float) -> None:
        """It does nothing for a while."""
        self.stuck_until = max(self.stuck_until, self._clock.now + seconds)

    def hear(self, message: object, payload: Sequence[Frame]) -> None:
        """A message arrives. One that is stuck reads it later."""
        if not self.alive:
            return
        if self.stuck_until > self._clock.now:
            self._clock.at(self.stuck_until, lambda: self.hear(message, payload))
            return
        try:
            outgoing = self.core.take(message, payload, self._clock.now)
        except Crash:
            self.kill()
            return
        except Hang:
            self.hang(math.inf)
            return
        self._send(outgoing)
        self._go_on()

    def _ready(self) -> None:
        if self.alive:
            self.core.links.hears(0, self._clock.now)
            self._send([self.core.ready(0)])
            self._clock.after(HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        if not self.alive:
            return
        if self.stuck_until > self._clock.now:
            self._clock.at(self.stuck_until, self._beat)
            return
        self._send(self.core.tick(self._clock.now))
        self._send([self.core.alive(0)])
        self._clock.after(HEARTBEAT_S, self._beat)

    def _go_on(self) -> None:
        if self.core.active and not self._stepping:
            self._stepping = True
            self._clock.after(STEP_S, self._step)

    def _step(self) -> None:
        self._stepping = False
        if not self.alive:
            return
        if self.stuck_until > self._clock.now:
            self._stepping = True
            self._clock.at(self.stuck_until, self._step)
            return
        try:
            outgoing = self.core.step(self._clock.now)
        except Crash:
            self.kill()
            return
        except Hang:
            self.hang(math.inf)
            return
        self._send(outgoing)
        self._go_on()

    def _send(self, outgoing: Sequence[tuple[int, WorkerMessage, Sequence[Frame]]]) -> None:
        for _, message, payload in outgoing:
            self._say(self.name, message, payload)
