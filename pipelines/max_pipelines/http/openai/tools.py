"""Tools: what the model is offered, and a grammar for when it has to call one."""

from __future__ import annotations

import json
from typing import Literal

import msgspec

from max_interfaces import Json, TextGenerationRequestTool

from ...openai_chat import Name, Tool
from ..problems import HttpProblem

MOST_CALLS = 16  # that a model which must call something may make: one that has lost its way would never end
BLANKS = r"[ \n]{1,64}"  # between the tokens of the arguments; bounded for the same reason


class Named(msgspec.Struct, frozen=True):
    """A function by its name."""

    name: Name


class NamedTool(msgspec.Struct, frozen=True):
    """The tool that has to be called."""

    function: Named
    type: Literal["function"] = "function"


class Offer:
    """The tools that one answer may use, and must if it is `forced`."""

    def __init__(self, tools: list[Tool], choice: str | NamedTool, *, parallel: bool) -> None:
        """`choice` is auto, none, required, or a function. HttpProblem 422 for one that is not
        there, ValueError for parameters that are no schema, though nobody be offered them.
        """
        known = {tool.function.name: tool.function for tool in tools}
        wanted = choice if isinstance(choice, str) else choice.function.name
        by_word = isinstance(choice, str) and wanted in ("auto", "none", "required")
        if not by_word and wanted not in known:
            text = f"tool_choice: no tool is called {wanted!r}; there are: {', '.join(known) or 'none'}"
            raise HttpProblem(422, "tool_error", text)
        if wanted == "required" and by_word and not tools:
            raise HttpProblem(422, "tool_error", "tool_choice = 'required': there are no tools")
        self._read = {name: function.read() for name, function in known.items()}
        self.functions = () if by_word and wanted == "none" else tuple(known.values())
        self.forced = wanted == "required" if by_word else True
        self.most = MOST_CALLS if parallel and by_word else 1
        self._callable = self.functions if by_word else (known[wanted],)

    @property
    def names(self) -> frozenset[str]:
        """Of the functions that may be called."""
        return frozenset(function.name for function in self._callable)

    @property
    def tools(self) -> tuple[TextGenerationRequestTool, ...]:
        """As the model's template is given them."""
        return tuple(TextGenerationRequestTool(self._read[function.name]) for function in self.functions)

    @property
    def grammar(self) -> Json | None:
        """For an answer that has to be calls: `[{"name": …, "arguments": …}, …]`. None if it has not to be any.

        Each schema stands for itself, so that what refers to its own root (`#/$defs/…`) still finds it.
        """
        if not self.forced:
            return None
        calls, rules = [], []
        for at, function in enumerate(self._callable):
            head = '{"name": ' + json.dumps(function.name) + ', "arguments": '
            schema = {"x-guidance": {"whitespace_pattern": BLANKS}, **function.schema}
            calls.append(f'{json.dumps(head)} arguments{at} "}}"')
            rules.append(f"arguments{at}: %json {json.dumps(schema, ensure_ascii=False)}")
        more = f' (", " call){{0,{self.most - 1}}}' if self.most > 1 else ""
        lark = [f'start: "[" call{more} "]"', f"call: {' | '.join(calls)}", *rules]
        return Json.of({"type": "lark", "value": "\n".join(lark)}, "tools")
