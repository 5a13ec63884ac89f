"""The contracts are light: whoever imports them gets numpy and msgspec, and nothing that runs a model or a server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers"}
SERVERS = {"fastapi", "zmq", "pydantic", "uvicorn"}


def modules_after(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after a statement."""
    code = (
        f"{statement}; import json, sys; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    run = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_the_interfaces_need_numpy_and_msgspec_and_nothing_else() -> None:
    loaded = modules_after("import max_interfaces, max_interfaces.messages, max_interfaces.wire")
    assert {"numpy", "msgspec"} <= loaded
    assert not loaded & (HEAVY | SERVERS)
    installed = loaded - set(sys.stdlib_module_names) - {"__main__", "sitecustomize", "_distutils_hack"}
    ours = {"max_interfaces", "numpy", "msgspec", "typing_extensions"}  # the last one is msgspec's
    assert {name for name in installed if not name.startswith("_")} <= ours


@pytest.mark.parametrize("module", ["max_codecs.layout", "max_pipelines.client", "max_pipelines.config"])
def test_the_clients_side_needs_no_model_library(module: str) -> None:
    assert not modules_after(f"import {module}") & HEAVY


def test_the_control_finds_what_it_looks_for() -> None:
    assert "zmq" in modules_after("import zmq")
