"""The memory of our processes lies in huge pages, where Linux lends some.

With pages of 2 MiB instead of 4 KiB a process looks up five hundred times less often where its memory is: the weights
and buffers of a model, and all that a server touches when it wakes. The embedded voice speaks a tenth sooner and an
idle server answers sooner (`maxpipe bench speech`, `maxpipe bench queue`). glibc asks for such pages if it is told so
when the process starts; Python, which takes memory in pieces that are too small for one, takes it from `arenas.cpp`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
ASKED = f"{TUNABLE}=1"
FIRST_GLIBC = (2, 35)  # that has the tunable
BEGUN = "begun_anew"  # an option of the interpreter that means nothing to it
ARENAS = Path(__file__).with_name("arenas.cpp")


class ArenaAllocator(ctypes.Structure):
    """Python's `PyObjectArenaAllocator`."""

    _fields_ = (("context", ctypes.c_void_p), ("alloc", ctypes.c_void_p), ("free", ctypes.c_void_p))


def with_huge_pages(environment: Mapping[str, str] = os.environ, setting: Path = SETTING) -> dict[str, str]:
    """The environment for a process of ours: as it is where the user has chosen, or where no huge pages are lent."""
    others = environment.get(TUNABLES, "")
    if TUNABLE in others or not (_lent(setting) and _asked_for_by_malloc()):
        return dict(environment)
    return {**environment, TUNABLES: f"{ASKED}:{others}" if others else ASKED}


def begin_anew() -> None:
    """Begin this process again, once, with the same arguments and number, unless it has what `with_huge_pages` gives.

    glibc drops tunables where a program has rights that its user has not (file capabilities): then it goes on without.
    """
    environment = with_huge_pages()
    if sys.executable and environment != os.environ and BEGUN not in sys._xoptions:
        with contextlib.suppress(OSError):  # then it goes on without
            os.execve(sys.executable, [sys.executable, "-X", BEGUN, *sys.orig_argv[1:]], environment)


def place_objects() -> None:
    """Python's objects lie in huge pages from now on, if this process was started with them.

    Not without a GIL: such a Python has another allocator.
    """
    if ASKED not in os.environ.get(TUNABLES, "").split(":") or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return
    from max_engines.compiled import open_library  # a process that begins anew has no use for it before

    library = open_library(ARENAS, "linux")
    if library is not None:
        take, give = (ctypes.cast(function, ctypes.c_void_p) for function in (library.take, library.give))
        ctypes.pythonapi.PyObject_SetArenaAllocator(ctypes.byref(ArenaAllocator(None, take, give)))


def _lent(setting: Path) -> bool:
    try:
        return "[never]" not in setting.read_text()
    except OSError:  # another system, or a kernel that has none
        return False


def _asked_for_by_malloc() -> bool:
    """Whether it is a glibc that can."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):  # another C library, or another system
        return False
    numbers = [int(part) for part in version.split(".") if part.isdecimal()]
    return name == "glibc" and tuple(numbers) >= FIRST_GLIBC
