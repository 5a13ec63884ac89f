"""The process in which chat templates are filled in: `python -m max_engines.template_process`.

A line of input is `[template, values]` in JSON, a line of output `[text, null]` or `[null, reason]`.
"""

from __future__ import annotations

import json

from .chat_template import TemplateRefused, render
from .guarded_process import serve_lines
from .template_terms import MAX_TEXT, MEMORY, RENDER_S


def answer(line: bytes) -> bytes:
    """The answer to one line."""
    template, values = json.loads(line)
    try:
        text = render(template, values)
        if len(text) > MAX_TEXT:
            raise TemplateRefused(f"gives {len(text)} characters, may give at most {MAX_TEXT}")
    except TemplateRefused as problem:
        return json.dumps([None, str(problem)[:2000]]).encode()
    return json.dumps([text, None]).encode()


if __name__ == "__main__":
    serve_lines(answer, memory=MEMORY, seconds=RENDER_S)
