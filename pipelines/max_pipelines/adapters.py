"""The adapters that requests may name."""

from __future__ import annotations

from max_interfaces import Adapters

OFF = "adapters cannot be loaded while this server runs; set `engine.adapter_folder` in its config"


def check_adapter(field: str, name: str | None, adapters: Adapters | None) -> int:
    """Which loading a name stands for, 0 for no name.

    ValueError, naming the field of the request, for an adapter that is not loaded.
    """
    if name is None:
        return 0
    if adapters is None or name not in adapters.names:
        known = ", ".join(sorted(() if adapters is None else adapters.names)[:64]) or "none"
        raise ValueError(f"{field} = {name!r}: no adapter of that name is loaded (loaded: {known})")
    return adapters.number(name)
