"""A conversation to the text that a model was taught to read, by a Jinja template in a sandbox.

Templates come with models from the hub or with requests, so they are untrusted programs: `template_process` runs this
module in a process of its own, under limits. The names a template may use are those of transformers'
`apply_chat_template`. Nothing heavy is imported here, so that the process starts at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .template_terms import GOES_ON, MAX_TEMPLATE


class TemplateRefused(ValueError):
    """The template cannot be used, or does not take this conversation."""


class _Generation(Extension):
    """`{% generation %}` marks what an assistant said, for training. Here it is only what it holds."""

    tags = {"generation"}  # noqa: RUF012  as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The nodes in between."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateRefused(message)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; Jinja's own filter writes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def environment() -> ImmutableSandboxedEnvironment:
    """What templates run in."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise_exception
    made.globals["strftime_now"] = _strftime_now
    return made


def render(template: str, values: Mapping[str, Any]) -> str:
    """The text of a conversation; `values` are `messages`, `tools` and whatever else the template reads.

    Ends where the last message does, if that ends in `GOES_ON`. TemplateRefused, with the reason, for a template that
    is none, breaks, or refuses the conversation itself.
    """
    if len(template) > MAX_TEMPLATE:
        raise TemplateRefused(f"has {len(template)} characters, may have at most {MAX_TEMPLATE}")
    try:
        text = environment().from_string(template).render(**values)
    except TemplateRefused:
        raise
    except jinja2.TemplateSyntaxError as problem:
        raise TemplateRefused(f"is no template (line {problem.lineno}: {problem.message})") from None
    except Exception as problem:  # a template is a program, and can break in any way
        raise TemplateRefused(f"cannot be filled in ({type(problem).__name__}: {problem})") from None
    last = next(reversed(values.get("messages") or [{}])).get("content")
    if isinstance(last, list) and last:
        last = last[-1].get("text")
    return _cut(text) if str(last).endswith(GOES_ON) else text


def _cut(text: str) -> str:
    """The text up to the end of the message that is to be gone on with."""
    at = text.rfind(GOES_ON.strip())
    if at < 0:
        raise TemplateRefused("leaves out the message that is to be continued")
    kept = text[:at]
    return kept if text.startswith(GOES_ON, at) else kept.rstrip()  # the template trims what messages end in
