"""The calls that a model makes of its own accord, in the forms that models are trained to write.

Hermes and Qwen: `<tool_call>{"name", "arguments"}</tool_call>`. Mistral: `[TOOL_CALLS] [{"name", "arguments"}, …]`.
Llama 3: the whole text is `{"name", "parameters"}`, or several of it with `;` between, maybe behind `<|python_tag|>`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Iterator
from typing import NoReturn

from .json_span import JsonSpan
from .pieces import Arguments, CallBegins, Content, Piece, unfinished

HERMES, HERMES_END, MISTRAL, LLAMA, BARE = "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", ""
MARKS = (HERMES, MISTRAL, LLAMA)
Step = Generator[Piece, None, bool]


class CallReader:
    """Reads calls of the functions `names`, `most` of them; more are dropped. What is no call stays content.

    A call is given when it is complete: before that it may turn out to be none. Blanks around calls are nobody's.
    """

    def __init__(self, names: Collection[str], most: int) -> None:
        self._names = names
        self._most = most
        self._count = 0
        self._held = ""  # what no step has taken
        self._blank = True  # nothing was said yet, or since the last call
        self._alone = True  # nothing was said or called at all
        self._mark = BARE  # what the call began with
        self._before = ""  # all of the text from there to `body`
        self._body = ""
        self._span = JsonSpan()
        self._step = self._content

    def push(self, text: str) -> Iterator[Piece]:
        """See `Reader`."""
        self._held += text
        while (yield from self._step()):
            pass

    def finish(self) -> Iterator[Piece]:
        """See `Reader`."""
        text = self._held
        if self._step == self._call:
            text = self._before + self._body + self._held
        elif self._step == self._behind or (self._count and not text.strip()):
            text = ""  # a closing tag that was cut off, or blanks
        if text:
            yield Content(text)

    def _content(self) -> Step:
        """Until a call begins."""
        text = self._held
        said = text.lstrip()
        if self._blank and not said:
            return False
        if self._blank and not self._alone:
            text = said
        if self._alone and said.startswith("{"):
            return self._begin(BARE, text[: -len(said)], said)
        at, mark = min(((at, mark) for mark in MARKS if (at := text.find(mark)) >= 0), default=(-1, ""))
        certain = at if mark else unfinished(text, *MARKS)
        before = text[:certain]
        if self._blank and not before.strip():
            if not mark:
                return False
        elif before:
            self._blank = self._alone = False
            yield Content(before)
            before = ""
        if mark:
            return self._begin(mark, before + mark, text[at + len(mark) :])
        self._held = text[certain:]
        return False

    def _begin(self, mark: str, before: str, rest: str) -> bool:
        self._mark, self._before, self._held = mark, before, rest
        self._body, self._span = "", JsonSpan()
        self._step = self._call
        return True

    def _call(self) -> Step:
        """Until its JSON is complete, or is none."""
        text = self._held if self._body else self._held.lstrip()
        if not text:
            return False
        if not self._body:
            self._before += self._held[: -len(text)]
            if text[0] not in "{[":
                return (yield from self._no_call(text))
        end = self._span.push(text)
        self._body += text[:end]
        self._held = "" if end is None else text[end:]
        if end is None:
            return False
        calls = calls_in(self._body, self._names)
        if not calls:
            return (yield from self._no_call(self._held))
        for name, arguments in calls:
            if self._count < self._most:
                yield CallBegins(self._count, name)
                yield Arguments(self._count, arguments)
                self._count += 1
        self._blank, self._alone = True, False
        self._step = self._behind
        return True

    def _no_call(self, rest: str) -> Step:
        """What seemed to be one is content; a call may still follow."""
        self._blank = self._alone = False
        self._held, self._step = rest, self._content
        yield Content(self._before + self._body)
        return True

    def _behind(self) -> Step:
        """What belongs to the call still: a closing tag, or what stands between two."""
        text = self._held.lstrip()
        if not text:
            return False
        if self._mark == HERMES:
            if text.startswith(HERMES_END):
                text = text.removeprefix(HERMES_END)
            elif HERMES_END.startswith(text):
                return False
        elif self._mark in (BARE, LLAMA) and text.startswith(";"):
            next_one = text[1:].lstrip()
            if not next_one:
                return False
            if next_one.startswith("{"):
                return self._begin(BARE, self._held[: -len(next_one)], next_one)
        self._held, self._step = text, self._content
        return True
        yield  # a step, like the others


def calls_in(text: str, names: Collection[str]) -> list[tuple[str, str]]:
    """The names and arguments, as JSON, of all calls in an object or a list; none if any of it is no call."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return []
    calls = [_call_in(entry, names) for entry in (value if isinstance(value, list) else [value])]
    known = [call for call in calls if call is not None]
    return known if len(known) == len(calls) else []


def _call_in(entry: object, names: Collection[str]) -> tuple[str, str] | None:
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str) or name not in names:
        return None
    arguments = entry.get("arguments", entry.get("parameters", {}))
    if isinstance(arguments, str):  # some models write OpenAI's own form
        try:
            arguments = json.loads(arguments, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return None
    return (name, json.dumps(arguments, ensure_ascii=False)) if isinstance(arguments, dict) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
