"""The adapters of an `LLM`'s requests: checked, then loaded when they are first used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from ..client import AsyncClient
from .adapter_limits import AdapterLimits
from .adapter_pool import AdapterPool, see_that_names_differ
from .asks import Ask


class LoadedAdapters:
    """What `client` has had loaded for its `model`: LoRA adapters and soft prompts, so many of each."""

    def __init__(self, client: AsyncClient, model: str, limits: AdapterLimits) -> None:
        self._limits = limits
        self._folders: dict[str, str] = {}  # by name; both kinds together, as they are in the engine
        turn = asyncio.Lock()
        self._loras = AdapterPool(client, model, limits.loras, turn, self._folders)
        self._soft_prompts = AdapterPool(client, model, limits.soft_prompts, turn, self._folders)

    def check(self, asks: Sequence[Ask]) -> None:
        """ValueError for a kind that is off, a soft prompt that is too long, or one name for two folders."""
        folders = dict(self._folders)
        for ask in asks:
            self._limits.check(ask.lora, ask.soft_prompt)
            for adapter in (ask.lora, ask.soft_prompt):
                if adapter is not None:
                    see_that_names_differ(folders, adapter)

    @asynccontextmanager
    async def used(self, ask: Ask) -> AsyncIterator[None]:
        """Have what it names loaded for the length of a block. ValueError if that cannot be."""
        async with AsyncExitStack() as stack:
            # Always in this order: who waits for a soft prompt's room has a LoRA adapter's, and never the other way.
            if ask.lora is not None:
                await stack.enter_async_context(self._loras.used(ask.lora))
            if ask.soft_prompt is not None:
                await stack.enter_async_context(self._soft_prompts.used(ask.soft_prompt))
            yield
