"""JSON schemas by chance, and a validator of its own for the keywords they use."""

from __future__ import annotations

from typing import Any, TypeAlias

from hypothesis import strategies as st

Schema: TypeAlias = dict[str, Any]

TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def valid(value: object, schema: Schema) -> bool:
    """Whether `value` is what `schema` describes."""
    if "anyOf" in schema and not any(valid(value, part) for part in schema["anyOf"]):
        return False
    if "enum" in schema and not any(type(value) is type(one) and value == one for one in schema["enum"]):
        return False
    if "type" in schema and not _of_type(value, schema["type"]):
        return False
    if isinstance(value, str):
        return bool(schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)))
    if isinstance(value, list):
        counted = bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
        return counted and all(valid(item, schema.get("items", {})) for item in value)
    if isinstance(value, dict):
        known = schema.get("properties", {})
        named = all(name in known for name in value) or schema.get("additionalProperties", True)
        required = all(name in value for name in schema.get("required", ()))
        return bool(named) and required and all(valid(value[name], known[name]) for name in value if name in known)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    return True


def _of_type(value: object, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (isinstance(value, bool) == (name == "boolean"))


def schemas() -> st.SearchStrategy[Schema]:
    """Schemas of a few levels, whose texts come to an end."""
    return st.recursive(_leaves(), lambda inner: _objects(inner) | _arrays(inner) | _unions(inner), max_leaves=6)


def _leaves() -> st.SearchStrategy[Schema]:
    strings = st.builds(
        lambda least, more: {"type": "string", "minLength": least, "maxLength": least + more},
        st.integers(0, 4),
        st.integers(0, 6),
    )
    integers = st.builds(
        lambda least, more: {"type": "integer", "minimum": least, "maximum": least + more},
        st.integers(-300, 300),
        st.integers(0, 400),
    )
    values = st.lists(
        st.one_of(st.text('ab\n"é{', max_size=4), st.integers(-9, 9), st.booleans(), st.none()), min_size=1
    )
    enums = values.map(lambda some: {"enum": some})
    return strings | integers | enums | st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": "number"}])


def _objects(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    properties = st.dictionaries(st.text('ab "é', min_size=1, max_size=3), inner, max_size=3)
    return st.builds(
        lambda known, count: {
            "type": "object",
            "properties": known,
            "required": list(known)[:count],
            "additionalProperties": False,
        },
        properties,
        st.integers(0, 3),
    )


def _arrays(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.builds(
        lambda items, least, more: {"type": "array", "items": items, "minItems": least, "maxItems": least + more},
        inner,
        st.integers(0, 2),
        st.integers(0, 2),
    )


def _unions(inner: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"anyOf": parts})
