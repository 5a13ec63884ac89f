"""Waiting for what may happen earlier than its time."""

from __future__ import annotations

import asyncio
from contextlib import suppress


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether it happens within so many seconds; returns at once if it does."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(event.wait(), seconds)
    return False
