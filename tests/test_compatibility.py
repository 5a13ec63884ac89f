"""docs/compatibility.md has a row for each name of five documents, and each row tells the truth where that shows."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import max_interfaces
import max_pipelines.llm
import max_pipelines.vlm
from max_pipelines.http.app import ROUTES
from max_pipelines.http.text_generation.answer import Answer
from max_pipelines.http.text_generation.events import Event
from max_pipelines.http.text_generation.parameters import Asked, Parameters
from max_pipelines.llm.arguments import Arguments
from max_pipelines.vlm.options import Options

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "compatibility.md").read_text(encoding="utf-8")
HEADINGS = {  # where the names of each list have their rows
    "audio-generation-request": "MAX's AudioGenerationRequest",
    "llm-class": "vLLM's LLM",
    "llm-class-beyond": "vLLM's LLM: engine arguments",
    "generate-functions": "mlx-vlm's generate functions",
    "generate-functions-beyond": "mlx-vlm's signatures",
    "text-generation-http-api": "The text-generation API",
    "any-to-any": "Any-to-any",
}
VERDICTS = ("yes", "warned", "refused")
NEVER = {"LLM.encode(lora_request)", "LLM.encode(prompt_adapter_request)"}  # all that the documents name and is refused
MODULES: dict[str, ModuleType] = {
    "audio-generation-request": max_interfaces,
    "llm-class": max_pipelines.llm,
    "llm-class-beyond": max_pipelines.llm,
    "generate-functions": max_pipelines.vlm,
    "generate-functions-beyond": max_pipelines.vlm,
}
NO_CLASS = {"EngineArgs"}  # a plain mapping or keyword arguments here
OURS = {"AsyncLLMEngine": "AsyncLLM"}
KEYWORDS: dict[str, Callable[[dict[str, None]], object]] = {  # what a function's **kwargs are read by
    "LLM": lambda given: Arguments.of("model", given),
    "generate": Options.of,
    "apply_chat_template": lambda given: given,  # all of them go to the template
}
BODIES: dict[str, type[msgspec.Struct]] = {"request": Asked, "response": Answer, "event": Event}
READ_LATER: dict[tuple[type, str], type[msgspec.Struct]] = {(Asked, "parameters"): Parameters}


@dataclass(frozen=True)
class Row:
    """A name of a document, and what the page says of it."""

    name: str
    verdict: str
    why: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        """The files and functions that it names."""
        return re.findall(r"`([\w/]+\.py)::(\w+)`", self.why)


def rows_below(heading: str) -> list[Row]:
    """The rows of a table, one for each name; several names may share a line."""
    (section,) = re.findall(rf"^##+ {re.escape(heading)}$(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    lines = [line.strip("| ").split(" | ", 2) for line in section.splitlines() if line.startswith("| ")]
    return [Row(_plain(name), verdict, why) for names, verdict, why in lines[1:] for name in names.split(" · ")]


def _plain(name: str) -> str:
    return name[1:-1] if re.fullmatch(r"`[^`]+`", name) else name


def names_of(document: str) -> list[str]:
    """What a document names."""
    return (TESTS / "compatibility" / f"{document}.txt").read_text(encoding="utf-8").splitlines()


ROWS = [pytest.param(document, row, id=row.name) for document in HEADINGS for row in rows_below(HEADINGS[document])]


def test_each_list_has_its_heading() -> None:
    assert {path.stem for path in (TESTS / "compatibility").iterdir()} == HEADINGS.keys()


@pytest.mark.parametrize("document", HEADINGS)
def test_each_name_has_one_row_and_each_row_a_name(document: str) -> None:
    names, named = names_of(document), [row.name for row in rows_below(HEADINGS[document])]
    assert set(names) - set(named) == set(), "without a row"
    assert set(named) - set(names) == set(), "in no document"
    assert len(named) == len(set(named)) == len(names), "twice"


@pytest.mark.parametrize(("document", "row"), ROWS)
def test_each_row_says_what_is_had_and_what_shows_it(document: str, row: Row) -> None:
    assert row.verdict in VERDICTS
    assert row.tests, "no test shows it"
    if row.verdict == "refused":
        assert document.endswith("-beyond") or row.name in NEVER
    for file, name in row.tests:
        assert name in functions_of(file), f"{file} has no {name}"


@cache
def functions_of(file: str) -> set[str]:
    """The functions of a test file, by the end of its path."""
    found = [path for path in TESTS.rglob(Path(file).name) if path.as_posix().endswith(f"/{file}")]
    assert len(found) == 1, f"{len(found)} files end with {file}"
    tree = ast.parse(found[0].read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


HAD = [row for row in ROWS if row.values[1].verdict in ("yes", "warned")]  # type: ignore[union-attr]


@pytest.mark.parametrize(("document", "row"), HAD)
def test_what_is_had_is_there(document: str, row: Row) -> None:
    if document in MODULES and not row.name.startswith("note: "):
        path, _, parameter = row.name.partition("(")
        if path in NO_CLASS or path.endswith("MessageParam"):
            return
        thing = found_at(MODULES[document], OURS.get(path, path))
        if parameter:
            check_parameter(path, thing, parameter.removesuffix(")"))
    elif row.name.startswith("POST "):
        assert re.sub(r"^POST ", "", row.name) in posts()
    elif row.name.partition(".")[0] in BODIES:
        root, *path_of_fields = row.name.split(".")
        check_fields(BODIES[root], path_of_fields)


def found_at(thing: Any, path: str) -> Any:
    """What a dotted name stands for. AssertionError for none."""
    for name in path.split("."):
        fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        if name not in {field.name for field in fields}:
            assert hasattr(thing, name), f"{thing} has no {name}"
        thing = getattr(thing, name, None)
    return thing


def check_parameter(path: str, thing: Any, name: str) -> None:
    """AssertionError if a call does not take it."""
    known = inspect.signature(thing).parameters
    if name in known:
        return
    assert path in KEYWORDS, f"{path} takes no {name}"
    try:
        KEYWORDS[path]({name: None})
    except ValueError:
        pass  # None is none of its values; its name is known
    except TypeError as problem:
        pytest.fail(str(problem))


def check_fields(kind: type[msgspec.Struct], path: list[str]) -> None:
    """AssertionError if an object of the API does not have the field. A grammar's own are read as they come."""
    for at, name in enumerate(path):
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
        assert name in fields, f"{kind.__name__} has no {name}"
        inner = READ_LATER.get((kind, name)) or next(structs_in(fields[name]), None)
        if inner is None:
            assert at + 1 == len(path) or name == "grammar"
            return
        kind = inner


def structs_in(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    """The objects that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for part in typing.get_args(annotation):
        yield from structs_in(part)


def posts() -> set[str]:
    """The paths that may be posted to."""
    return {
        re.sub(r":path\}", "}", route.path)
        for route in ROUTES
        if "POST" in (getattr(route, "methods", None) or ()) or hasattr(getattr(route, "endpoint", None), "post")
    }


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        ("load", ["path_or_hf_repo", "adapter_path", "lazy", "revision"]),
        ("generate", ["model", "processor", "prompt", "image", "audio", "video", "verbose", "kwargs"]),
        ("stream_generate", ["model", "processor", "prompt", "image", "audio", "video", "kwargs"]),
        (
            "batch_generate",
            ["model", "processor", "images", "audios", "prompts", "max_tokens", "verbose", "group_by_shape"],
        ),
        (
            "apply_chat_template",
            ["processor", "config", "prompt", "add_generation_prompt", "return_messages", "num_images", "num_audios"],
        ),
    ],
)
def test_the_generate_family_takes_its_arguments_in_their_order(function: str, parameters: list[str]) -> None:
    ours = list(inspect.signature(getattr(max_pipelines.vlm, function)).parameters)
    assert ours[: len(parameters)] == parameters


def test_the_constructor_takes_its_arguments_in_their_order() -> None:
    named = [name[4:-1] for name in names_of("llm-class") if name.startswith("LLM(")]
    assert [name for name in inspect.signature(max_pipelines.llm.LLM).parameters if name in named] == [
        "model", "tokenizer", "tokenizer_mode", "skip_tokenizer_init", "trust_remote_code", "tensor_parallel_size",
        "dtype", "quantization", "revision", "tokenizer_revision", "seed", "gpu_memory_utilization", "swap_space",
        "cpu_offload_gb", "enforce_eager", "max_context_len_to_capture", "max_seq_len_to_capture",
        "disable_custom_all_reduce", "disable_async_output_proc", "kwargs",
    ]  # fmt: skip
