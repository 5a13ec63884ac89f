"""What the documents name must exist."""

from __future__ import annotations

import ast
import pathlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.findall(r"`([\w/]+\.py):(\w+)`", (ROOT / "docs" / "design.md").read_text(encoding="utf-8"))


def test_the_eight_steps_are_there() -> None:
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    life = text.partition("## The life of a request")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\. ", life, re.MULTILINE) == [str(number) for number in range(1, 9)]


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_name_in_the_design_exists(file: str, name: str) -> None:
    candidates = [ROOT / file, *ROOT.glob(f"*/{file}")]
    path = next(path for path in candidates if path.exists())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_test_that_a_promise_names_exists() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## The promises")[2].splitlines() if line.startswith("| ")][1:]
    for row in rows:
        named = re.findall(r"`([\w/]*test_\w+\.py)`", row)
        assert named, f"no test proves: {row}"
        for name in named:
            assert list((ROOT / "tests").rglob(pathlib.PurePath(name).name)), f"{name} does not exist"
