"""How much memory a device has to give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

_NO_LIMIT = 2**60  # control groups of version 1 say "none" with some number above it


def check_memory_size(wanted: float) -> None:
    """ValueError unless it is an int, at least one byte, or a float in (0, 1], a fraction."""
    if isinstance(wanted, float):
        if not 0 < wanted <= 1:
            raise ValueError(f"kv_memory = {wanted}: as a fraction of the device's memory it must be in (0, 1]")
    elif wanted < 1:
        raise ValueError(f"kv_memory = {wanted}: must be at least 1 byte, or a fraction such as 0.5")


def memory_size(wanted: float, device: torch.device) -> int:
    """Bytes: an int is bytes already; a float is a fraction of what is free on `device` now. ValueError for others."""
    check_memory_size(wanted)
    return int(wanted * available_memory(device)) if isinstance(wanted, float) else wanted


ACTIVATIONS = 0.05  # of a GPU's memory: what a step takes beside weights and cache, and the driver for itself


def share_left(share: float, device: torch.device) -> int:
    """Bytes that are left of a `share` of a GPU's whole memory, once what is taken now and activations are counted.

    On a CPU the share is of what is free: nobody can say what belongs to whom there.
    """
    if device.type != "cuda":
        return memory_size(share, device)
    free, total = torch.cuda.mem_get_info(device)
    return max(0, int(share * total) - (total - free) - int(ACTIVATIONS * total))


def available_memory(device: torch.device) -> int:
    """Bytes that are free on `device`: a GPU's own, or what this machine and its container leave a process."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return available_main_memory()


def available_main_memory(root: Path = Path("/")) -> int:
    """Bytes that a process may still take: what the kernel says, and no more than its control groups allow.

    `root` is where /proc and /sys are found. Sources: man 5 proc (MemAvailable), the kernel's cgroup-v2.rst and
    cgroup-v1/memory.rst. File caches are counted as free, for the kernel drops them.
    """
    return max(0, min([_available(root), *_group_rooms(root)]))


def _available(root: Path) -> int:
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # no Linux


def _group_rooms(root: Path) -> Iterator[int]:
    """What each control group that this process is in still has, from its own to the outermost."""
    mount = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _rooms(mount, path, "memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            yield from _rooms(
                mount / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
            )


def _rooms(mount: Path, path: str, limit: str, usage: str, cached: str) -> Iterator[int]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for count in range(len(parts), -1, -1):
        folder = mount.joinpath(*parts[:count])
        most, used = _number(folder / limit), _number(folder / usage)
        if most is not None and used is not None and most < _NO_LIMIT:
            statistics = dict(line.split(" ", 1) for line in _lines(folder / "memory.stat"))
            yield most - used + int(statistics.get(cached, 0))


def _number(file: Path) -> int | None:
    """The number that a file holds; None for "max", or if there is no such file."""
    text = "".join(_lines(file))
    return int(text) if text.isdigit() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
