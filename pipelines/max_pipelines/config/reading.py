"""YAML to a config, and errors that name the key and what is valid there."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from max_interfaces import ConfigError
from max_interfaces.values import JsonValue

from .root import Config
from .section import OptionValue

OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


def load_config(path: str | Path) -> Config:
    """Read a YAML file. ConfigError names the file, the key's path and what is valid there."""
    file = Path(path)
    try:
        text = file.read_bytes()
    except OSError as problem:
        raise ConfigError(f"{file}: cannot be read ({problem.strerror})") from None
    return parse_config(text, str(file))


def parse_config(text: bytes | str, source: str = "config") -> Config:
    """Decode YAML text; `source` stands in errors where a file's name would."""
    try:
        return msgspec.yaml.decode(text, type=Config)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"{source}: {_explain(str(problem))}") from None
    except (msgspec.DecodeError, ValueError) as problem:
        raise ConfigError(f"{source}: is no valid YAML: {' '.join(str(problem).split())}") from None


def read_options(key: str, options: Mapping[str, OptionValue], kind: type[OptionsT]) -> OptionsT:
    """What stands at `key` in YAML, as the Struct of whom it is for; errors are those of `parse_config`."""
    try:
        return msgspec.convert(options, kind)
    except msgspec.ValidationError as problem:
        raise ConfigError(_explain(str(problem), kind, key)) from None


def config_schema() -> dict[str, JsonValue]:
    """The JSON Schema of a config file."""
    schema: dict[str, JsonValue] = msgspec.json.schema(Config)
    return schema


def _explain(problem: str, kind: type[msgspec.Struct] = Config, prefix: str = "") -> str:
    """msgspec's message with the key's path first and, for an unknown key, the nearest valid one.

    `kind` is the Struct at which msgspec's paths begin, `prefix` the path to it.
    """
    what, _, where = problem.partition(" - at `$")
    inside = where.rstrip("`").lstrip(".")
    path = ".".join(part for part in (prefix, inside) if part)
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", what)
    if not unknown:
        valid = f"; valid: {', '.join(_choices(inside, kind))}" if what.startswith("Invalid enum value") else ""
        return f"{path}: {what}{valid}" if path else what
    key = unknown.group(1)
    known = _keys_at(inside, kind)
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    valid = f"valid keys: {', '.join(known)}" if known else "there are none"
    hint = f"did you mean `{near[0]}`?" if near else valid
    return f"{path + '.' if path else ''}{key}: unknown key; {hint}"


def _keys_at(path: str, kind: type[msgspec.Struct]) -> list[str]:
    """The valid keys at a path such as `speech.layout`."""
    return [field.name for field in msgspec.structs.fields(_struct(_annotation(path, kind), kind))]


def _choices(path: str, kind: type[msgspec.Struct]) -> list[str]:
    """The valid words at a path such as `workers.transport`."""
    info = msgspec.inspect.type_info(_annotation(path, kind))
    candidates = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    return [
        str(value)
        for candidate in candidates
        if isinstance(candidate, msgspec.inspect.LiteralType)
        for value in candidate.values
    ]


def _annotation(path: str, root: type[msgspec.Struct]) -> object:
    """What stands behind the colon of the key at a path."""
    kind: object = root
    for part in [part for part in re.sub(r"\[.*?\]", "", path).split(".") if part]:
        fields = {field.name: field.type for field in msgspec.structs.fields(_struct(kind, root))}
        kind = fields.get(part, root)
    return kind


def _struct(kind: object, root: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """The Struct in an annotation such as `SpeechConfig | None`."""
    info = msgspec.inspect.type_info(kind)
    candidates = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    for candidate in candidates:
        if isinstance(candidate, msgspec.inspect.StructType):
            return candidate.cls
    return root
