"""The form that an answer must have, in vLLM's words."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

from max_interfaces import Json

ANY_OBJECT = {"type": "object"}


@runtime_checkable
class Model(Protocol):
    """A class of pydantic's, which knows its schema."""

    def model_json_schema(self) -> dict[str, Any]:
        """The JSON schema of its fields."""
        ...


@dataclass
class GuidedDecodingParams:
    """Exactly one of `json` (a schema as a mapping, as a string, or a pydantic class), `regex`, `choice`, `grammar` (in
    llguidance's dialect of Lark), and `json_object` (any object).

    `backend` and `whitespace_pattern` change nothing: there is one backend, and blanks are bounded. ValueError unless
    exactly one form is given.
    """

    json: str | Mapping[str, Any] | Model | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    backend: str | None = None
    whitespace_pattern: str | None = None

    def __post_init__(self) -> None:
        given = {"json", "regex", "choice", "grammar"} - {
            name for name in ("json", "regex", "choice", "grammar") if getattr(self, name) is None
        }
        given |= {"json_object"} if self.json_object else set()
        if len(given) != 1:
            named = ", ".join(sorted(given)) or "none"
            raise ValueError(
                f"{type(self).__name__}: give one of json, regex, choice, grammar, json_object; got {named}"
            )

    @classmethod
    def from_optional(cls, **given: Any) -> Self | None:
        """The form, or None if no form is given at all."""
        named = {name: value for name, value in given.items() if value is not None}
        return cls(**named) if named.keys() - {"backend", "whitespace_pattern"} else None

    def translated(self) -> Json:
        """As `SamplingParams.grammar` of the road has it."""
        if self.json is not None:
            return _form("json", _schema(self.json))
        if self.json_object:
            return _form("json", ANY_OBJECT)
        if self.regex is not None:
            return _form("regex", self.regex)
        if self.choice is not None:
            return _form("choice", list(self.choice))
        return _form("lark", self.grammar)


StructuredOutputsParams = GuidedDecodingParams  # its name in today's vLLM


def guided(options: GuidedDecodingParams | Mapping[str, Any] | None) -> GuidedDecodingParams | None:
    """What `guided_options_request` holds: names such as `guided_json`, or the plain ones. ValueError for others."""
    if options is None or isinstance(options, GuidedDecodingParams):
        return options
    try:
        return GuidedDecodingParams.from_optional(
            **{name.removeprefix("guided_").replace("decoding_", ""): value for name, value in options.items()}
        )
    except TypeError as problem:
        raise ValueError(f"guided_options_request: {problem}") from None


def _schema(given: str | Mapping[str, Any] | Model) -> object:
    if isinstance(given, str):
        try:
            return json_text.loads(given)
        except ValueError as problem:
            raise ValueError(f"GuidedDecodingParams.json: a string that is no JSON ({problem})") from None
    return given.model_json_schema() if isinstance(given, Model) else dict(given)


def _form(kind: str, value: object) -> Json:
    return Json.of({"type": kind, "value": value}, "GuidedDecodingParams")
