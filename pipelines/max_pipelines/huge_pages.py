"""The memory of our processes lies in huge pages, where Linux lends some.

With pages of 2 MiB instead of 4 KiB a process looks up five hundred times less often where its memory is: the weights
and buffers of a model, and all that a server touches when it wakes. The embedded voice speaks a tenth sooner and an
idle server answers sooner (`maxpipe bench speech`, `maxpipe bench queue`). glibc asks for such pages if it is told so
when the process starts. Python's own allocator takes its memory in too small pieces, so servers and faces do without
it; a worker keeps it, for small objects between large tensors leave holes, and its memory would grow.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
ASKED = f"{TUNABLE}=1"
ALLOCATOR, DEVELOPING = "PYTHONMALLOC", "PYTHONDEVMODE"
FIRST_GLIBC = (2, 35)  # that has the tunable


def with_huge_pages(
    environment: Mapping[str, str] = os.environ, setting: Path = SETTING, *, tensors: bool = False
) -> dict[str, str]:
    """The environment for a process of ours, one that holds `tensors` or not.

    As it is where the user has chosen, or where no huge pages are to be had.
    """
    given = dict(environment)
    if given.get(ALLOCATOR) == "malloc" and given.get(TUNABLES, "").startswith(ASKED):
        del given[ALLOCATOR]  # this process was started so itself
        given[TUNABLES] = given[TUNABLES].removeprefix(ASKED).removeprefix(":")
    others = given.get(TUNABLES, "")
    chosen = ALLOCATOR in given or DEVELOPING in given or TUNABLE in others
    if chosen or not (_lent(setting) and _asked_for_by_malloc()):
        return dict(environment)
    asked = given | {TUNABLES: f"{ASKED}:{others}" if others else ASKED}
    return asked if tensors else asked | {ALLOCATOR: "malloc"}


def begin_anew(*, tensors: bool) -> None:
    """Begin this process again, with the same arguments and number, unless it has what `with_huge_pages` gives."""
    environment = with_huge_pages(tensors=tensors)
    if sys.executable and environment != os.environ:
        with contextlib.suppress(OSError):  # then it goes on without
            os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _lent(setting: Path) -> bool:
    try:
        return "[never]" not in setting.read_text()
    except OSError:  # another system, or a kernel that has none
        return False


def _asked_for_by_malloc() -> bool:
    """Whether it is a glibc that can, and a Python whose objects may lie there: one without a GIL has an allocator."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):  # another C library, or another system
        return False
    numbers = [int(part) for part in version.split(".") if part.isdecimal()]
    return name == "glibc" and tuple(numbers) >= FIRST_GLIBC and not sysconfig.get_config_var("Py_GIL_DISABLED")
