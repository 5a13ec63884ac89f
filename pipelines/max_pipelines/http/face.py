"""What every endpoint needs."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request

from max_interfaces import MaxpipeError, PipelineTask, StartFailed
from max_interfaces.messages import ModelInfo

from ..client import AsyncClient
from ..config import HttpConfig
from . import bodies
from .encoders import Encoders
from .media import MediaReader
from .metrics import Metrics
from .problems import HttpProblem, problem_of
from .text_generation.cache import AnswerCache
from .uploads import Uploads

OPENS_S = 1.0  # a face that was started again beside a server that serves needs much less
LOADING_S = 20.0  # what a client that asks too early is told to wait, as the hosted API does

StructT = TypeVar("StructT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a client's `model` means: a model, or one with an adapter of its own, whose name it is then."""

    info: ModelInfo
    adapter: str | None = None

    @property
    def name(self) -> str:
        """What the answer calls it."""
        return self.adapter or self.info.name


class Face:
    """One server's face: the client of its dispatcher, and how it is configured.

    It answers before its models are loaded, that they are not.
    """

    def __init__(
        self,
        client: AsyncClient,
        config: HttpConfig,
        model: str,
        device: str = "cpu",
        uploads: Uploads | None = None,
    ) -> None:
        self.config = config
        self.uploads = uploads  # of voices; None if clients may add none
        self.device = device
        self.answers = AnswerCache(config.text.cache_bytes, config.text.cache_age_s)
        self.encoders = Encoders()
        self.metrics = Metrics()
        self.media = MediaReader(config)
        self._client = client
        self._loading = model
        self._opened = asyncio.Event()
        self._problem: Exception | None = None

    @classmethod
    def of(cls, request: Request) -> Face:
        """The face that a request has come to."""
        face: Face = request.app.state.face
        return face

    async def open(self) -> None:
        """Wait until the models are ready. What goes wrong with that is told to everybody who asks."""
        try:
            await self._client.__aenter__()
        except MaxpipeError as problem:
            self._problem = problem
        self._opened.set()

    async def close(self) -> None:
        """End what runs."""
        self.media.close()
        await self._client.close()

    @property
    def client(self) -> AsyncClient:
        """The client, open. HttpProblem 503 while the models are loading, or if they cannot be loaded."""
        if self._problem is not None:
            raise problem_of(self._problem)
        if not self._opened.is_set():
            text = f"Model {self._loading} is currently loading"
            raise HttpProblem(503, "loading", text, {"retry-after": f"{LOADING_S:.0f}"}, estimated_time=LOADING_S)
        return self._client

    async def wait_loaded(self, seconds: float = OPENS_S) -> None:
        """Wait for the models, for so long at most; `client` says whether they are there."""
        try:
            async with asyncio.timeout(seconds):
                await self._opened.wait()
        except TimeoutError:
            return

    async def read(self, request: Request, kind: type[StructT]) -> StructT:
        """The body, once the client is open, or will not be for a while. HttpProblem as `bodies.read`."""
        await self.wait_loaded()
        return await bodies.read(request, kind, self.config.max_body_bytes, self.config.body_timeout_s)

    def model(self, name: str, task: PipelineTask) -> ModelInfo:
        """The served model that a client means. HttpProblem 404 if there is none, or it does something else."""
        info = self.served(name)
        self.check_task(info, task)
        return info

    def served(self, name: str) -> ModelInfo:
        """The served model that a client means, whatever it does. HttpProblem 404 if there is none.

        No name, or one of the configured aliases, such as a hosted service's, means the only one that there is.
        """
        served = {info.name: info for info in self.client.models}
        info = served.get(name)
        if info is None and len(served) == 1 and self._means_any(name):
            info = next(iter(served.values()))
        if info is None:
            adapters = [adapter for info in served.values() for adapter in info.adapters]
            text = f"no model {name!r} is served here; served: {', '.join(sorted([*served, *adapters]))}"
            raise HttpProblem(404, "unknown_model", text)
        return info

    async def chosen(self, name: str, task: PipelineTask) -> Chosen:
        """The served model or adapter that a client means. HttpProblem as `model`."""
        adapted = self._adapted(name)
        if adapted is None and not self._means_any(name) and all(info.name != name for info in self.client.models):
            await self.models()  # it may have been loaded since
            adapted = self._adapted(name)
        chosen = adapted or Chosen(self.served(name))
        self.check_task(chosen.info, task)
        return chosen

    async def models(self) -> tuple[ModelInfo, ...]:
        """What is served now: asked again where adapters or voices may have come or gone."""
        client = self.client
        if any(info.loads_adapters or info.takes_samples for info in client.models):
            with contextlib.suppress(StartFailed):  # no worker will come any more: who asks one is told so
                await client.ask_models()
        return client.models

    def _adapted(self, name: str) -> Chosen | None:
        found = (info for info in self.client.models if name in info.adapters)
        return next((Chosen(info, name) for info in found), None)

    def _means_any(self, name: str) -> bool:
        return not name or name in self.config.model_aliases

    def check_task(self, info: ModelInfo, task: PipelineTask) -> None:
        """HttpProblem 404 for a model that does something else."""
        if info.task != task.value:
            raise HttpProblem(404, "unknown_model", f"model {info.name!r} is for {info.task}, not for {task.value}")
