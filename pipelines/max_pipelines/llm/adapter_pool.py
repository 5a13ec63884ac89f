"""Adapters that are loaded while requests use them, and until others want their room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from max_interfaces import LoRAStatus, MaxpipeError

from ..client import AsyncClient
from .adapters import AnyAdapter


@dataclass(eq=False, slots=True)
class _Loaded:
    """The task that loads an adapter, whose result is why it cannot be; and how many requests use it."""

    loading: asyncio.Task[Exception | None]
    users: int = 0


class AdapterPool:
    """At most `most` adapters of a model at a time, each loaded when it is first used.

    One that nobody uses gives its room to a new one, the least recently used first. If all are in use the new one
    waits, and, as in vLLM, requests for those that are there go first. `turn` lets one be loaded or unloaded at a time,
    in order, as a name may come back while it goes; `folders` says what each name stands for, for good.
    """

    def __init__(self, client: AsyncClient, model: str, most: int, turn: asyncio.Lock, folders: dict[str, str]) -> None:
        self._client = client
        self._model = model
        self._most = most
        self._turn = turn
        self._folders = folders
        self._loaded: dict[str, _Loaded] = {}  # the least recently used first
        self._left = asyncio.Event()

    @asynccontextmanager
    async def used(self, adapter: AnyAdapter) -> AsyncIterator[None]:
        """Have it loaded for the length of a block. ValueError if it cannot be."""
        while adapter.name not in self._loaded and not self._begun(adapter):
            self._left.clear()
            await self._left.wait()
        see_that_names_differ(self._folders, adapter)
        loaded = self._loaded[adapter.name] = self._loaded.pop(adapter.name)  # to the end
        loaded.users += 1
        try:
            problem = await asyncio.shield(loaded.loading)  # others may wait for it, too
            if problem is not None:
                raise problem
            yield
        finally:
            loaded.users -= 1
            self._left.set()

    def _begun(self, adapter: AnyAdapter) -> bool:
        """Begin to load it, if there is room, or one that can go."""
        full = len(self._loaded) >= self._most
        idle = (name for name, one in self._loaded.items() if full and one.loading.done() and not one.users)
        instead = next(idle, None)
        if full and instead is None:
            return False
        if instead is not None:
            del self._loaded[instead]
        self._loaded[adapter.name] = _Loaded(asyncio.create_task(self._load(adapter, instead)))
        self._folders[adapter.name] = adapter.folder
        return True

    async def _load(self, adapter: AnyAdapter, instead: str | None) -> Exception | None:
        """Load it, once `instead` is unloaded. Returns why it cannot be; it is as if it had never been, then."""
        try:
            async with self._turn:
                if instead is not None:
                    await self._client.unload_adapter(instead, model=self._model)
                if not Path(adapter.folder).is_dir():
                    raise ValueError(f"adapter {adapter.name!r}: there is no folder {adapter.folder!r}")
                response = await self._client.load_adapter(adapter.name, adapter.folder, model=self._model)
            if response.status is not LoRAStatus.SUCCESS:
                raise ValueError(response.message)
        except (MaxpipeError, ValueError, OSError) as problem:
            del self._loaded[adapter.name]
            self._folders.pop(adapter.name, None)
            if isinstance(problem, OSError):  # a folder that cannot be looked at, or a name that can be none
                return ValueError(
                    f"adapter {adapter.name!r}: {adapter.folder!r:.300} cannot be read: {problem.strerror}"
                )
            return problem
        finally:
            self._left.set()
        return None


def see_that_names_differ(folders: dict[str, str], adapter: AnyAdapter) -> None:
    """ValueError for an adapter whose name stands for another folder's; otherwise it stands for this one now."""
    there = folders.setdefault(adapter.name, adapter.folder)
    if there != adapter.folder:
        text = f"is the one in {there!r}; give the one in {adapter.folder!r} another name"
        raise ValueError(f"adapter {adapter.name!r}: {text}")
