"""Compiles what is made of C++, if there is a compiler; without one it is left out."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import zlib
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("engines", "max_engines", "kernels")
ARENAS = Path("pipelines", "max_pipelines", "arenas.cpp")
ROWS, TILES = KERNELS / "rows.cpp", KERNELS / "tiles.cpp"
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-shared", "-Wno-psabi"]
# One library for each kind of machine: of the kernels, each kind of processor that torch tells apart
# (`torch.backends.cpu.get_cpu_capability`).
ANYWHERE: dict[tuple[Path, str], list[str]] = {(ROWS, "default"): []}
LINUX: dict[tuple[Path, str], list[str]] = {(ARENAS, "linux"): []}
X86 = {
    (ROWS, "avx512"): ["-march=x86-64-v4"],
    (ROWS, "avx2"): ["-march=x86-64-v3"],
    (TILES, "amx"): ["-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}


class CompiledLibraries(BuildHookInterface):
    """Called by `pip install`, editable or not."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Compile, and add the libraries to the wheel, which is then for this platform alone."""
        wanted = ANYWHERE | (LINUX if sys.platform == "linux" else {})
        wanted |= X86 if platform.machine() in ("x86_64", "AMD64") else {}
        made = [path for (source, variant), flags in wanted.items() if (path := self._compiled(source, variant, flags))]
        if made:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] = made

    def _compiled(self, path: Path, variant: str, flags: list[str]) -> str | None:
        source = Path(self.root, path)
        library = source.with_name(f"{path.stem}-{variant}.so")
        # `max_engines.compiled` compares the same number.
        sources = sorted([*source.parent.glob("*.cpp"), *source.parent.glob("*.h")])
        define = f"-DSOURCE_DIGEST={zlib.crc32(b''.join(path.read_bytes() for path in sources))}u"
        compiler = shlex.split(os.environ.get("CXX", "c++"))
        try:
            subprocess.run([*compiler, *FLAGS, *flags, define, str(source), "-o", f"{library}.new"], check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            Path(f"{library}.new").unlink(missing_ok=True)
            self.app.display_warning(f"maxpipe will be slower on a CPU: {library.name} was not compiled ({problem})")
            return None
        Path(f"{library}.new").replace(library)
        return str(path.with_name(library.name))
