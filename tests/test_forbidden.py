"""What must stand nowhere in the packages, proved over the syntax trees: dead code counts too."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for root in ("max_interfaces", "codecs", "engines", "pipelines", "voices")
    for path in (ROOT / root).rglob("*.py")
]
MODULES = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
BUILTINS = {"eval", "exec", "compile", "__import__"}  # as methods these names are torch's own
METHODS = {"recv_pyobj", "send_pyobj", "sleep"}
TORCH_LOAD_ALLOWED = {  # with `weights_only=True` alone, which reads tensors and runs nothing
    "codecs/max_codecs/snac/convert.py",  # SNAC's published .bin, to safetensors
    "engines/max_engines/omni/speakers.py",  # the voices of Qwen2.5-Omni's published checkpoints
}
LOADERS = {"torch", "torch.serialization", "torch.jit"}


def findings(tree: ast.AST, name: str) -> Iterator[str]:
    """What is forbidden in a syntax tree, with its line."""
    allowed: set[ast.AST] = set()
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.Import(names=names) if {alias.name.split(".")[0] for alias in names} & MODULES:
                yield f"{where} imports a module that executes what it reads"
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield f"{where} imports a module that executes what it reads"
            case ast.ImportFrom(module="time" | "asyncio", names=names) if any(a.name == "sleep" for a in names):
                yield f"{where} sleeps"
            case ast.Assert():
                yield f"{where} validates with assert, which -O removes"
            case ast.Call(func=ast.Name(id=called)) if called in BUILTINS:
                yield f"{where} calls {called}"
            case ast.Attribute(value=ast.Name(id="builtins"), attr=called) if called in BUILTINS:
                yield f"{where} calls {called}"
            case ast.Call(func=ast.Attribute(attr=called)) if called in METHODS and not paced(called, name):
                yield f"{where} calls {called}"
            case ast.Import(names=names) if any(a.name in LOADERS and (a.asname or a.name != "torch") for a in names):
                yield f"{where} gives torch.load another name"
            case ast.ImportFrom(module=str(module), names=names) if any(
                (module in LOADERS and a.name in ("*", "load")) or f"{module}.{a.name}" in LOADERS for a in names
            ):
                yield f"{where} gives torch.load another name"
            case ast.Call(func=ast.Attribute() as reader) if name in TORCH_LOAD_ALLOWED and reads_tensors_alone(node):
                allowed.add(reader)
            case ast.Attribute(attr="load", value=module) if ast.unparse(module) in LOADERS and node not in allowed:
                yield f"{where} has torch.load"
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    if keyword.arg in ("allow_pickle", "trust_remote_code") and ast.unparse(keyword.value) != "False":
                        yield f"{where} sets {keyword.arg}"


def reads_tensors_alone(call: ast.Call) -> bool:
    """True for `torch.load(FILE, map_location="cpu", weights_only=True)`, in any order, and nothing else."""
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    safe = {"map_location": "'cpu'", "weights_only": "True"}
    return ast.unparse(call.func) == "torch.load" and len(call.args) == 1 and options == safe


def paced(called: str, name: str) -> bool:
    """True for the pauses between the requests of a benchmark, whose load is one request every 50 ms."""
    return called == "sleep" and name.startswith("pipelines/max_pipelines/bench/")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_forbidden(path: Path) -> None:
    assert not list(findings(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec('1')",
        "socket.recv_pyobj()",
        "torch.load('x')",
        "torch.load('x', weights_only=True)",
        "assert x",
        "time.sleep(1)",
        "await_ = asyncio.sleep(1)",
        "from time import sleep",
        "np.load('x', allow_pickle=True)",
        "load(x, trust_remote_code=True)",
        "compile('1', '', 'eval')",
        "builtins.eval('1')",
    ],
)
def test_the_search_finds_what_it_looks_for(code: str) -> None:
    assert list(findings(ast.parse(code), "somewhere.py"))


SAFE = "torch.load(path, map_location='cpu', weights_only=True)"


@pytest.mark.parametrize("name", sorted(TORCH_LOAD_ALLOWED))
def test_tensors_are_read_from_a_pickle_in_these_files_alone(name: str) -> None:
    assert not list(findings(ast.parse(SAFE), name))
    assert list(findings(ast.parse(SAFE), f"engines/{name}"))
    assert SAFE.replace("'", '"') in (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path)",
        "torch.load(path, map_location='cpu')",
        "torch.load(path, map_location='cpu', weights_only=False)",
        "torch.load(path, map_location='cpu', weights_only=1)",
        "torch.load(path, map_location='cpu', weights_only=not trusted)",
        "torch.load(path, map_location='cpu', weights_only=True, pickle_module=other)",
        "torch.load(path, map_location='cpu', weights_only=True, **options)",
        "torch.load(path, 'cpu', other, weights_only=True)",
        "torch.load(path, **options)",
        "torch.load(*arguments, map_location='cpu', weights_only=True, mmap=True)",
        "torch.serialization.load(path, map_location='cpu', weights_only=True)",
        "torch.jit.load(path)",
        "read = torch.load",
        "partial(torch.load, weights_only=False)",
        f"read = torch.load; {SAFE}",
        "from torch import load",
        "from torch import *",
        "from torch import serialization",
        "from torch.serialization import load",
        "from torch.jit import load as read",
        "import torch as t",
        "import torch.serialization as s",
    ],
)
def test_nothing_else_of_torch_load_is_allowed_even_there(code: str) -> None:
    assert all(list(findings(ast.parse(code), name)) for name in TORCH_LOAD_ALLOWED)
