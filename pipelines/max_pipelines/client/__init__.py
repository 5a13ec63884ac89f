"""The client: `AsyncClient`, and `Client`, a thin run of it."""

from __future__ import annotations

from .async_client import AsyncClient
from .speaking import Flush
from .sync_client import Client

__all__ = ["AsyncClient", "Client", "Flush"]
