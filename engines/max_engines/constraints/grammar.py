"""A grammar as it was asked for: read, bounded, and not compiled yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from llguidance import LLMatcher

from max_interfaces.text import TextGenerationResponseFormat
from max_interfaces.values import Json, JsonValue

from .limits import DEFAULT_LIMITS, GrammarLimits

KINDS = "json, json_object, json_schema, regex, choice, lark or grammar"
ANY_OBJECT: dict[str, JsonValue] = {"type": "object"}
# Runs of blanks are bounded: a model that has lost its way could write them for ever. Sixty-four indent 32 levels by 2.
BLANKS = r"[ \n\r\t]{1,64}"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What a text must look like, in llguidance's own format. `where` says for messages which field asked for it."""

    source: str
    where: str = field(compare=False)

    @classmethod
    def requested(
        cls,
        grammar: Json | None,
        response_format: TextGenerationResponseFormat | None = None,
        limits: GrammarLimits = DEFAULT_LIMITS,
    ) -> Grammar | None:
        """The grammar of a request, from `SamplingParams.grammar` or `response_format`; None if it has none.

        `grammar` is {"type": ..., "value": ...} as in the HTTP text-generation API: `json` or `json_object` with a
        schema, as an object or as a string of JSON; `json_schema` with {"schema": ...}; `regex`. Besides them, for
        vLLM's guided decoding, `choice` with a list of strings, and `lark` or `grammar` with llguidance's dialect of
        Lark. A `regex` is Rust's, which knows no look-around and no back-references, and matches the whole text. What
        a schema asks for and llguidance does not know (`not`, `uniqueItems`) is refused by name when it is compiled.
        A `response_format` is `text`, `json_object` (any object) or `json_schema`, with a schema or OpenAI's wrapper.

        ValueError, naming the field: both are given, an unknown type, a value of the wrong kind, too large, too deep.
        """
        formatted = None if response_format is None else _of_format(response_format, limits)
        if grammar is None:
            return formatted
        if formatted is not None:
            raise ValueError("SamplingParams.grammar and response_format: both ask for a form; leave one out")
        return _of_parameter(grammar, limits)


def _of_parameter(grammar: Json, limits: GrammarLimits) -> Grammar:
    """`SamplingParams.grammar`."""
    where = "SamplingParams.grammar"
    asked = grammar.value
    if not isinstance(asked, dict) or not isinstance(asked.get("type"), str) or "value" not in asked:
        raise _refused(where, f'{grammar.text[:80]} must be {{"type": ..., "value": ...}}; types are {KINDS}')
    kind, value = asked["type"], asked["value"]
    match kind:
        case "json" | "json_object":
            return _of_schema(value, where, limits)
        case "json_schema":
            return _of_schema(_unwrapped(value), where, limits)
        case "regex":
            regex = _bounded(_text(value, kind, where), where, limits)
            return Grammar(LLMatcher.grammar_from_regex(regex), where)
        case "choice":
            return _of_choice(value, where, limits)
        case "lark" | "grammar":
            return _of_lark(_text(value, kind, where), where, limits)
    raise _refused(where, f"type {kind!r:.80} is unknown; types are {KINDS}")


def _of_format(response_format: TextGenerationResponseFormat, limits: GrammarLimits) -> Grammar | None:
    """`TextGenerationRequest.response_format`."""
    where, schema = "response_format", response_format.json_schema
    match response_format.type:
        case "text":
            return None
        case "json_object":  # some callers put their schema here too
            return _of_schema(ANY_OBJECT if schema is None else _unwrapped(schema.value), where, limits)
        case "json_schema":
            if schema is None:
                raise _refused(where, "json_schema is not set; it must be the schema")
            return _of_schema(_unwrapped(schema.value), where, limits)
    raise _refused(where, f"type {response_format.type!r:.80} is unknown; types are text, json_object, json_schema")


def _unwrapped(value: JsonValue) -> JsonValue:
    """The schema in {"name": ..., "schema": ...}; `schema` is no keyword of JSON Schema."""
    return value["schema"] if isinstance(value, dict) and "schema" in value else value


def _of_schema(value: JsonValue, where: str, limits: GrammarLimits) -> Grammar:
    if isinstance(value, str):
        _bounded(value, where, limits)
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as problem:
            raise _refused(where, f"the schema is a string, and no JSON ({problem})") from None
    if not isinstance(value, dict):
        raise _refused(where, f"{value!r:.80} is no JSON schema; it must be an object, or a string that holds one")
    _bounded(json.dumps(value, ensure_ascii=False), where, limits)
    _not_too_deep(value, where, limits)
    schema = {"json_schema": {"x-guidance": {"whitespace_pattern": BLANKS}, **value}}
    return Grammar(json.dumps({"grammars": [schema]}, ensure_ascii=False), where)


def _of_choice(value: JsonValue, where: str, limits: GrammarLimits) -> Grammar:
    if not isinstance(value, list) or not value or not all(isinstance(choice, str) for choice in value):
        raise _refused(where, f"{value!r:.80} is no choice; it must be a list of strings, and not empty")
    return _of_lark("start: " + " | ".join(json.dumps(choice) for choice in value), where, limits)


def _of_lark(text: str, where: str, limits: GrammarLimits) -> Grammar:
    grammar = {"lark_grammar": _bounded(text, where, limits)}
    return Grammar(json.dumps({"grammars": [grammar]}, ensure_ascii=False), where)


def _text(value: JsonValue, kind: str, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _refused(where, f"the value of type {kind!r} is {value!r:.80}; it must be a string, and not empty")
    return value


def _bounded(text: str, where: str, limits: GrammarLimits) -> str:
    if len(text) > limits.characters:
        raise _refused(where, f"has {len(text)} characters, may have at most {limits.characters}")
    return text


def _not_too_deep(value: JsonValue, where: str, limits: GrammarLimits) -> None:
    level: list[JsonValue] = [value]
    for _ in range(limits.depth + 1):
        if not level:
            return
        inner = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list)]
        level = [part for parts in inner for part in parts]
    raise _refused(where, f"is nested deeper than {limits.depth} levels")


def _refused(where: str, reason: str) -> ValueError:
    return ValueError(f"{where}: {reason}")
