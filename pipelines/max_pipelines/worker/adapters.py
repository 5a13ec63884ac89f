"""The adapters that dispatchers have a worker load while it serves."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import TypeAlias

import msgspec

from max_interfaces import AdapterRefused, Adapters, DeviceLost, LoRAStatus
from max_interfaces.messages import Adapter, Equip, Fitted

from ..adapters import OFF
from ..problems import report, sendable

LONGEST_REASON = 512  # characters: it is part of each sign of life
Stamp: TypeAlias = tuple[tuple[str, int, int], ...]  # the files of a folder: name, bytes, and when written, in ns


class _Order(msgspec.Struct, eq=False):
    """What one dispatcher wants: the number of its last list, and what became of each adapter of it."""

    revision: int = 0
    fitted: dict[int, Fitted] = {}  # by generation
    names: dict[int, str] = {}  # of those that are loaded


class _Shared(msgspec.Struct, eq=False):
    """An adapter that is loaded, from which files, and the dispatchers that want it."""

    path: str
    stamp: Stamp
    links: set[int] = set()


class AdapterStock:
    """What a pipeline's `adapters` have loaded for which dispatcher, told apart by number.

    Only what lies in `folder` is loaded, nothing without one. Those `given` at the start are nobody's, and stay.
    `before_load` is called before each that is loaded, which may take long.
    """

    def __init__(self, adapters: Adapters | None, folder: str | None, links: int = 1) -> None:
        self._adapters = adapters
        self._folder = folder
        self._orders = [_Order() for _ in range(links)]
        self._loaded: dict[str, _Shared] = {}
        self.before_load: Callable[[], None] = lambda: None
        self.given: tuple[str, ...] = () if adapters is None else tuple(sorted(adapters.names))

    @property
    def may_load(self) -> bool:
        """Whether anything can be loaded."""
        return self._adapters is not None and self._folder is not None

    def revision(self, link: int) -> int:
        """The number of a dispatcher's last list."""
        return self._orders[link].revision

    def fitted(self, link: int) -> tuple[Fitted, ...]:
        """What became of it."""
        return tuple(self._orders[link].fitted.values())

    def has(self, link: int, generations: Collection[int]) -> bool:
        """Whether all these are loaded."""
        return all(generation in self._orders[link].names for generation in generations)

    def equip(self, link: int, equip: Equip) -> None:
        """Unload what is not on a list and load what is new on it. An older list, or the same again, changes nothing.

        DeviceLost if the device is, in the midst of it.
        """
        order = self._orders[link]
        if equip.revision <= order.revision:
            return
        wanted = {adapter.generation for adapter in equip.adapters}
        for generation in [known for known in order.fitted if known not in wanted]:  # first: a name may come back
            self._drop(link, generation)
        for adapter in equip.adapters:
            if adapter.generation not in order.fitted:
                order.fitted[adapter.generation] = self._take(link, adapter)
        order.revision = equip.revision

    def forget(self, link: int) -> None:
        """Unload all that a dispatcher wanted; the next list counts, whatever its number."""
        order = self._orders[link]
        for generation in list(order.fitted):
            self._drop(link, generation)
        order.revision = 0

    def _take(self, link: int, adapter: Adapter) -> Fitted:
        status = LoRAStatus.LOAD_ERROR
        try:
            self._load(link, adapter.name, adapter.path)
        except DeviceLost:
            raise
        except AdapterRefused as problem:
            status, text = problem.status, str(problem)
        except Exception as problem:  # a third party's, or a file that nobody has foreseen
            report(problem)
            text = f"{type(problem).__name__}: {problem}"
        else:
            self._orders[link].names[adapter.generation] = adapter.name
            return Fitted(adapter.generation)
        return Fitted(adapter.generation, status, sendable(text[:LONGEST_REASON]))

    def _load(self, link: int, name: str, path: str) -> None:
        if self._adapters is None or self._folder is None:
            raise AdapterRefused(LoRAStatus.LOAD_ERROR, OFF)
        found = inside(self._folder, path)
        stamp = _stamp(found)  # before they are read: what is written meanwhile is not what was loaded
        shared = self._loaded.get(name)
        if shared is None:
            self.before_load()
            self._adapters.load(name, found)
            shared = self._loaded[name] = _Shared(found, stamp)
        elif (shared.path, shared.stamp) != (found, stamp):
            other = "another adapter of that name" if shared.path != found else "it as its files were before"
            text = f"{name!r}: another server of this worker's has {other}; unload it there first, or choose a new name"
            raise AdapterRefused(LoRAStatus.LOAD_NAME_EXISTS, text)
        shared.links.add(link)

    def _drop(self, link: int, generation: int) -> None:
        order = self._orders[link]
        del order.fitted[generation]
        name = order.names.pop(generation, None)
        if name is None or self._adapters is None:
            return
        shared = self._loaded[name]
        shared.links.discard(link)
        if shared.links:
            return
        del self._loaded[name]
        try:
            self._adapters.unload(name)
        except DeviceLost:
            raise
        except Exception as problem:  # what it could not free is lost; it is named by nobody any more
            report(problem)


def _stamp(folder: str) -> Stamp:
    """Other files, or the same written again, have another one."""
    with os.scandir(folder) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in files))


def inside(folder: str, path: str) -> str:
    """The real path of a folder in `folder`, given as a path or as a name in it. AdapterRefused for any other."""
    try:
        root = os.path.realpath(folder)
        found = os.path.realpath(os.path.join(root, path))
        is_inside = found != root and os.path.commonpath((root, found)) == root
    except ValueError:  # a zero character
        is_inside = False
    if not is_inside:
        text = f"{path!r:.300}: does not lie in this server's folder for adapters; give a name or a path in it"
        raise AdapterRefused(LoRAStatus.LOAD_INVALID_PATH, text)
    if not os.path.isdir(found):
        text = f"{path!r:.300}: there is no such folder in this server's folder for adapters"
        raise AdapterRefused(LoRAStatus.LOAD_INVALID_PATH, text)
    return found
