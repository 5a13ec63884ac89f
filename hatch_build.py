"""Compiles the engine's operations for a CPU, if there is a C++ compiler; without one they are left out."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import zlib
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path("engines", "max_engines", "kernels")
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fPIC", "-shared", "-Wno-psabi"]
# One library for each kind of processor that torch tells apart (`torch.backends.cpu.get_cpu_capability`).
ANYWHERE: dict[tuple[str, str], list[str]] = {("rows", "default"): []}
X86 = {
    ("rows", "avx512"): ["-march=x86-64-v4"],
    ("rows", "avx2"): ["-march=x86-64-v3"],
    ("tiles", "amx"): ["-march=x86-64-v4", "-mavx512bf16", "-mamx-tile", "-mamx-bf16"],
}


class CompiledKernels(BuildHookInterface):
    """Called by `pip install`, editable or not."""

    def initialize(self, version: str, build_data: dict[str, object]) -> None:
        """Compile, and add the libraries to the wheel, which is then for this platform alone."""
        wanted = ANYWHERE | (X86 if platform.machine() in ("x86_64", "AMD64") else {})
        made = [path for (source, variant), flags in wanted.items() if (path := self._compiled(source, variant, flags))]
        if made:
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["artifacts"] = made

    def _compiled(self, name: str, variant: str, flags: list[str]) -> str | None:
        source = Path(self.root, FOLDER, f"{name}.cpp")
        library = source.with_name(f"{name}-{variant}.so")
        # `library.py` compares the same number.
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
        return str(FOLDER / library.name)
