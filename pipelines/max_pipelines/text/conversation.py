"""What a chat template is given of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from max_engines.template_terms import GOES_ON, MAX_TEXT
from max_engines.tokenizer import TextTokenizer
from max_interfaces import MessageRole, TextContentPart, TextGenerationRequest
from max_interfaces.text import TextGenerationRequestMessage, TextGenerationRequestTool
from max_interfaces.values import JsonValue

Values: TypeAlias = dict[str, JsonValue]
REASONING = ("reasoning_content", "reasoning", "thinking")  # templates know it by different names
OF_PARTS = re.compile(r"""["']type["']|\.type\b""")
OWN = {"messages", "tools", "documents", "add_generation_prompt"}  # names that options cannot give


def takes_parts(template: str) -> bool:
    """Whether a template of a model that sees or hears reads a message's content part by part, by their `type`."""
    return OF_PARTS.search(template) is not None


def template_values(request: TextGenerationRequest, tokenizer: TextTokenizer, *, parts: bool = False) -> Values:
    """The names of a template and what they stand for. ValueError, naming the field, for what no template can take.

    With `parts` the content of a message is a list of them, as it is in transformers' templates of images and sounds.

    No text of a message becomes a special token, whoever wrote it; but for what the assistant said, in which tags such
    as `<think>`, that are not flagged as special, are themselves.
    """
    try:
        messages: list[JsonValue] = [_message(message, tokenizer, parts) for message in request.messages]
        tools: list[JsonValue] = [_shield(_tool(tool), tokenizer.shielded) for tool in request.tools]
    except RecursionError:
        raise ValueError("messages.tool_calls, tools: the JSON of one of them is nested too deep") from None
    if request.continue_final_message:
        _leave_open(messages[-1])
    return {
        **tokenizer.special_names,
        **_options(request),
        "messages": messages,
        "tools": tools or None,
        "documents": None,
        "add_generation_prompt": request.add_generation_prompt,
    }


def checked_length(messages: Sequence[TextGenerationRequestMessage]) -> int:
    """The characters of all messages. ValueError if there are more than any template may be given."""
    count = sum(len(message.flatten_content()) for message in messages)
    if count > MAX_TEXT:
        raise ValueError(f"messages: have more than {MAX_TEXT} characters in all")
    return count


def _message(message: TextGenerationRequestMessage, tokenizer: TextTokenizer, parts: bool) -> JsonValue:
    own = message.role is MessageRole.ASSISTANT

    def shield(text: str) -> str:
        return tokenizer.shielded(text, own_words=own)

    content: JsonValue = _parts(message, shield) if parts else shield(message.flatten_content())
    given: Values = {"role": message.role.value, "content": content}
    if message.tool_calls is not None:
        given["tool_calls"] = _shield(_tool_calls(message.tool_calls.value), shield)
    if message.tool_call_id is not None:
        given["tool_call_id"] = shield(message.tool_call_id)
    if message.reasoning_content is not None:
        given |= dict.fromkeys(REASONING, shield(message.reasoning_content))
    return given


def _parts(message: TextGenerationRequestMessage, shield: Callable[[str], str]) -> list[JsonValue]:
    """Images and sounds are an empty text by their own names: some templates look for those, and not for the type."""
    content = message.content
    given = (TextContentPart(content),) if isinstance(content, str) else content
    return [
        {"type": "text", "text": shield(part.text)}
        if isinstance(part, TextContentPart)
        else {"type": part.kind.value, part.kind.value: ""}
        for part in given
    ]


def _tool_calls(calls: JsonValue) -> JsonValue:
    """Calls as templates read them: arguments are an object, where OpenAI has a string that holds one."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise ValueError("messages.tool_calls: must be a list of objects")
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            try:
                function["arguments"] = json.loads(str(function["arguments"]) or "{}")
            except ValueError:
                raise ValueError("messages.tool_calls: the arguments of a call are a string, and no JSON") from None
    return calls


def _tool(tool: TextGenerationRequestTool) -> JsonValue:
    function = tool.function
    described: Values = {"name": function.name, "parameters": function.parameters.value}
    if function.description is not None:
        described["description"] = function.description
    if function.strict:
        described["strict"] = True
    return {"type": tool.type, "function": described}


def _options(request: TextGenerationRequest) -> Values:
    """`chat_template_options`, such as `enable_thinking`."""
    if request.chat_template_options is None:
        return {}
    options = request.chat_template_options.value
    if not isinstance(options, dict):
        raise ValueError("chat_template_options: must be a JSON object")
    if taken := OWN & options.keys():
        raise ValueError(f"chat_template_options.{min(taken)}: is a field of the request; give it there")
    return options


def _leave_open(message: JsonValue) -> None:
    """Mark where the model is to go on within the last message."""
    content = message["content"] if isinstance(message, dict) else None
    if isinstance(message, dict) and isinstance(content, str):
        message["content"] = f"{content}{GOES_ON}"
    elif isinstance(content, list):
        last = content[-1] if content else None
        if not isinstance(last, dict) or "text" not in last:
            raise ValueError("continue_final_message = True: the last message ends in no text")
        last["text"] = f"{last['text']}{GOES_ON}"


def _shield(value: JsonValue, shield: Callable[[str], str]) -> JsonValue:
    """All texts within a value, shielded."""
    match value:
        case str():
            return shield(value)
        case list():
            return [_shield(part, shield) for part in value]
        case dict():
            return {shield(name): _shield(part, shield) for name, part in value.items()}
    return value
