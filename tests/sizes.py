"""Prints how large the packages are: lines a file, and the longest functions. The goal is less."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("max_interfaces", "codecs", "engines", "pipelines", "voices")


def main() -> None:
    """One row a package, then the longest functions of all."""
    functions: list[tuple[int, str]] = []
    print(f"{'package':<16}{'files':>6}{'lines':>8}{'median':>8}{'longest file':>14}")
    for package in PACKAGES:
        sizes: list[tuple[int, str]] = []
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            name = str(path.relative_to(ROOT))
            sizes.append((text.count("\n"), name))
            functions += [
                ((node.end_lineno or node.lineno) - node.lineno + 1, f"{name}:{node.name}")
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
        lines = [size for size, _ in sizes]
        longest, name = max(sizes)
        row = f"{package:<16}{len(sizes):>6}{sum(lines):>8}{statistics.median(lines):>8.0f}{longest:>8}  {name}"
        print(row)
    print("\nlongest functions")
    for size, name in sorted(functions, reverse=True)[:10]:
        print(f"{size:>6}  {name}")


if __name__ == "__main__":
    main()
