"""CPU time and memory of a process and all its descendants, from /proc; nothing where there is none."""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """`root` and all processes that descend from it."""
    parents: dict[int, list[int]] = {}
    for folder in PROC.glob("[0-9]*"):
        fields = _stat(int(folder.name))
        if fields:
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [root]
    for process in found:
        found.extend(parents.get(process, ()))
    return found


def cpu_seconds(processes: list[int]) -> float | None:
    """User and system time of all their threads since they began; None if the platform does not say."""
    stats = [fields for process in processes if (fields := _stat(process))]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS_PER_S if stats else None


def forget_peaks(processes: list[int]) -> None:
    """Begin the highest resident size anew, where the platform lets us; else it counts from the process's start."""
    for process in processes:
        try:
            (PROC / str(process) / "clear_refs").write_text("5")
        except OSError:
            continue


def peak_bytes(processes: list[int]) -> int | None:
    """Sum of the highest resident sizes, shared pages counted in each; None if the platform does not say."""
    peaks = []
    for process in processes:
        try:
            lines = (PROC / str(process) / "status").read_text().splitlines()
        except OSError:
            continue
        peaks += [1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return sum(peaks) if peaks else None


def _stat(process: int) -> list[str]:
    """The fields after the name: state, parent and so on; none for a process that has gone."""
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
