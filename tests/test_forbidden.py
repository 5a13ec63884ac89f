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
TORCH_LOAD_ALLOWED = {"codecs/max_codecs/snac/convert.py"}  # SNAC's published .bin, to safetensors


def findings(tree: ast.AST, name: str) -> Iterator[str]:
    """What is forbidden in a syntax tree, with its line."""
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
            case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="torch")), keywords=keywords):
                safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in keywords)
                if name not in TORCH_LOAD_ALLOWED or not safe:
                    yield f"{where} calls torch.load"
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    if keyword.arg in ("allow_pickle", "trust_remote_code") and ast.unparse(keyword.value) != "False":
                        yield f"{where} sets {keyword.arg}"


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
