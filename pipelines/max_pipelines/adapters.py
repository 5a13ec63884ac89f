"""The adapters that requests may name."""

from __future__ import annotations

from max_interfaces import Adapters


def check_adapter(field: str, name: str | None, adapters: Adapters | None) -> None:
    """ValueError, naming the field of the request, for an adapter that is not loaded."""
    loaded = () if adapters is None else adapters.names
    if name is not None and name not in loaded:
        known = ", ".join(sorted(loaded)[:64]) or "none"
        raise ValueError(f"{field} = {name!r}: no adapter of that name is loaded (loaded: {known})")
