"""Values of any public type, drawn from the annotations of its fields: a new field is covered by itself."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import hypothesis.strategies as st
import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from max_interfaces import (
    AudioGenerationRequest,
    BeamRule,
    EmbeddingsGenerationRequest,
    Json,
    LoRARequest,
    MediaKind,
    SamplingParams,
    TextGenerationRequest,
)
from max_interfaces.arrays import ArrayOf
from max_interfaces.wire import ARRAY_FRAME_BYTES

Fields = dict[str, Any]


def instances(kind: type) -> st.SearchStrategy[Any]:
    """Any instance of a dataclass or Struct, with any subset of what need not be given."""
    hints = get_type_hints(kind, include_extras=True)
    given: dict[str, st.SearchStrategy[Any]] = {name: values(hints[name]) for name, needed in _fields(kind) if needed}
    rest: dict[str, st.SearchStrategy[Any]] = {
        name: values(hints[name]) for name, needed in _fields(kind) if not needed
    }
    drawn = st.fixed_dictionaries(given, optional=rest)
    return drawn.map(lambda fields: kind(**_mended(kind, fields)))


def plain(kind: type) -> Any:
    """The simplest instance of a dataclass: what must be given, and no more."""
    hints = get_type_hints(kind, include_extras=True)
    return kind(**_mended(kind, {name: _simplest(hints[name]) for name, needed in _fields(kind) if needed}))


def _simplest(hint: Any) -> Any:
    if get_origin(hint) in (Annotated, Union, types.UnionType):
        return _simplest(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return ()
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(iter(hint))
    return {str: "a", int: 0, float: 0.0}[hint] if hint in (str, int, float) else plain(hint)


def values(hint: Any, meta: Meta | None = None) -> st.SearchStrategy[Any]:
    """Any value of one annotation, within its bounds."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = arguments[1:]
        array = next((bound for bound in bounds if isinstance(bound, ArrayOf)), None)
        return arrays(array) if array else values(arguments[0], next(b for b in bounds if isinstance(b, Meta)))
    if origin in (Union, types.UnionType):
        return st.one_of([values(arm) for arm in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    least, most = (meta.min_length or 0, meta.max_length or 4) if meta else (0, 4)
    if origin is tuple:
        return st.lists(values(arguments[0]), min_size=least, max_size=min(most, least + 4)).map(tuple)
    if origin is Mapping:
        return st.dictionaries(*map(values, arguments), max_size=min(most, 4))
    if hint is str:
        return st.text(st.characters(codec="utf-8"), min_size=least, max_size=min(most, least + 12))
    if hint is bytes:
        return st.binary(min_size=least, max_size=min(most, least + 12))
    if hint is int or hint is float:
        return _numbers(hint, meta or Meta())
    return _plain(hint)


def _plain(hint: Any) -> st.SearchStrategy[Any]:
    if hint is bool:
        return st.booleans()
    if hint is type(None):
        return st.none()
    if hint is Json:
        return json_values().map(Json.of)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return instances(hint)


def _numbers(kind: type, meta: Meta) -> st.SearchStrategy[Any]:
    if kind is int:
        assert meta.gt is None
        return st.integers(None if meta.ge is None else int(meta.ge), None if meta.le is None else int(meta.le))
    low = meta.ge if meta.ge is not None else meta.gt
    return st.floats(low, meta.le, exclude_min=meta.gt is not None, allow_nan=False, allow_infinity=False)


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can say."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    text = st.text(st.characters(codec="utf-8"), max_size=5)
    return st.recursive(
        leaves | text, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
    )


@st.composite
def arrays(draw: st.DrawFn, bound: ArrayOf) -> NDArray[Any]:
    """An array within its bound: empty, small, or large enough for a frame of its own. Any dtype of its kinds."""
    dtype = np.dtype(draw(st.sampled_from([name for name in _DTYPES if np.dtype(name).kind in bound.kinds])))
    large = ARRAY_FRAME_BYTES // 4
    shape = [draw(st.sampled_from([0, 1, 2, 7, large // 2, large]))] + [draw(st.integers(0, 2))] * (bound.ndim - 1)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype.name)
    low = max(info.min, info.min if bound.ge is None else bound.ge)
    high = min(info.max, info.max if bound.le is None else bound.le)
    return random.integers(low, high, size=shape, dtype=dtype, endpoint=True)


_DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")


def _fields(kind: Any) -> list[tuple[str, bool]]:
    """(name, whether it must be given)."""
    if issubclass(kind, msgspec.Struct):
        return [(field.name, field.required) for field in msgspec.structs.fields(kind)]
    missing = dataclasses.MISSING
    return [(f.name, f.default is missing and f.default_factory is missing) for f in dataclasses.fields(kind)]


def _mend_sampling(fields: Fields) -> Fields:
    """Least is at most most, the best are taken of at least as many as are returned, and beams draw nothing."""
    if fields.get("max_new_tokens") is not None and "min_new_tokens" in fields:
        fields["min_new_tokens"] = min(fields["min_new_tokens"], fields["max_new_tokens"])
    if fields.get("best_of") is not None:
        fields["best_of"] = max(fields["best_of"], fields.get("n", 1))
    if fields.get("beam_width") is None:
        searching = ("length_penalty", "early_stopping", "beam_rule")
        return {name: value for name, value in fields.items() if name not in searching}
    off = {"temperature", "best_of", "top_k", "top_p", "min_p", "typical_p"}
    if fields.get("beam_rule") is BeamRule.VLLM:
        off.add("early_stopping")
    return {name: value for name, value in fields.items() if name not in off} | {
        "n": min(fields.get("n", 1), fields["beam_width"])
    }


def _mend_audio(fields: Fields) -> Fields:
    """There is something to say, a position only with its tokens, and words only of a text."""
    if not fields.get("prompt"):
        fields |= {"prompt": None, "input": (fields.get("input") or "") + "a"}
    if fields.get("buffer_speech_tokens") is None:
        fields["buffer_position"] = None
    if fields.get("input") is None or fields.get("prompt") is not None:
        fields["word_timestamps"] = False
    return fields


def _mend_text(fields: Fields) -> Fields:
    """A prompt or messages; as many media as the messages place; a message goes on or a new one begins."""
    messages = fields.get("messages", ())
    if messages:
        fields["prompt"] = None
    else:
        fields["prompt"] = fields.get("prompt") or "a"
    for kind in MediaKind:
        fields[f"{kind.value}s"] = (b"item",) * sum(message.media(kind) for message in messages)
    if fields.get("continue_final_message"):
        fields["add_generation_prompt"] = False
    return fields


def _mended(kind: type, fields: Fields) -> Fields:
    """Changed as little as the rules between the fields of this type ask for."""
    mend = _MENDED.get(kind)
    return mend(fields) if mend else fields


_MENDED: dict[type, Callable[[Fields], Fields]] = {
    SamplingParams: _mend_sampling,
    AudioGenerationRequest: _mend_audio,
    TextGenerationRequest: _mend_text,
    EmbeddingsGenerationRequest: lambda fields: fields | {"input": fields["input"] or "a"},
    LoRARequest: lambda fields: fields | {"lora_path": fields.get("lora_path") or "adapters/a"},
}
