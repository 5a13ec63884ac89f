"""Frames that must be refused, one for each kind of trouble that was ever thought of, or met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from max_interfaces.messages import PROTOCOL_MARK, PROTOCOL_VERSION

packed = msgspec.msgpack.encode
Frames = list[bytes]

MANY = b"\xff\xff\xff\xff"  # a length of 4 G
DEPTH = 1500  # Python's stack has room for 1000
OPENINGS = {"array": b"\x91", "map": b"\x81\xa1a", "map_key": b"\x81", "array16": b"\xdc\x00\x01"}
LIARS = {"array": b"\xdd", "map": b"\xdf", "text": b"\xdb", "bytes": b"\xc6", "extension": b"\xc9"}
NUMBERS = {
    "nan": b"\xcb\x7f\xf8" + bytes(6),
    "infinity": b"\xcb\x7f\xf0" + bytes(6),
    "float32_nan": b"\xca\x7f\xc0\x00\x00",
    "minus_one": b"\xff",
    "2_to_the_63": b"\xcf\x80" + bytes(7),
    "2_to_the_64": b"\xcf" + b"\xff" * 8,
    "least_integer": b"\xd3\x80" + bytes(7),
    "true": b"\xc3",
    "nil": b"\xc0",
}
TEXTS = {
    "lone_continuation": b"\xa1\x80",
    "overlong": b"\xa2\xc0\xaf",
    "surrogate": b"\xa3\xed\xa0\x80",
    "beyond_unicode": b"\xa4\xf5\x80\x80\x80",
    "cut_character": b"\xa2\xe2\x82",
    "bytes": b"\xc4\x01a",
}


def wrong_headers() -> Iterator[tuple[str, Frames]]:
    """Header frames, by name."""
    ping = packed(["Ping", b"a"])
    yield "empty", [b""]
    yield "version_alone", [PROTOCOL_MARK]
    for version in (0, PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1, 255):
        yield f"version_{version}", [bytes([version]) + ping]
    for name, frame in (*_shapes(), *_listed_wrongly()):
        yield name, [PROTOCOL_MARK + frame]
    yield "trailing", [PROTOCOL_MARK + ping + b"\x00"]
    yield "truncated", [PROTOCOL_MARK + ping[:-1]]
    for name, number in NUMBERS.items():
        yield f"deadline_{name}", [PROTOCOL_MARK + _listed("Submit", "a", "m") + number]
        yield f"count_{name}", [PROTOCOL_MARK + _listed("Beat") + number]
    for name, text in TEXTS.items():
        yield f"text_{name}", [PROTOCOL_MARK + _listed("Cancel") + text]
    for name, tag in LIARS.items():
        yield f"held_{name}_of_4_g", [PROTOCOL_MARK + _listed("Alive", "w", 0) + tag + MANY]
    for name, opening in OPENINGS.items():
        yield f"more_depth_{name}", [PROTOCOL_MARK + _listed("Ping", b"a") + opening * DEPTH]
        yield f"held_depth_{name}", [PROTOCOL_MARK + _listed("Alive", "w", 0) + b"\x91" + opening * DEPTH]


def wrong_payloads() -> Iterator[tuple[str, Frames]]:
    """Payload frames, by name."""
    request = packed({"$type": "AudioGenerationRequest", "request_id": "a", "model": "m", "input": "hi"})
    output = packed({"$type": "AudioGenerationOutput", "final_status": "active", "steps_executed": 1})
    yield "none", []
    yield "empty", [b""]
    for name, frame in _shapes():
        yield name, [frame]
        yield f"item_{name}", [b"\x91" + frame]
    fields = {"request_id": "a", "model": "m", "input": "hi"}
    for name, frame in _tags(fields, "AudioGenerationRequest", "Ping", "model"):
        yield name, [b"\x91" + frame]
    yield "no_list", [request]
    yield "trailing", [b"\x91" + request + b"\x00"]
    yield "truncated", [b"\x91" + request[:-1]]
    yield "more_items_than_may_be", [b"\xdd\x00\x01\x00\x01" + request]
    yield "fewer_items_than_said", [b"\x92" + request]
    for name, number in NUMBERS.items():
        yield f"speed_{name}", [b"\x91" + _with(request, "speed", number)]
    for name, text in TEXTS.items():
        yield f"text_{name}", [b"\x91" + _with(request, "voice", text)]
    for name, tag in LIARS.items():
        yield f"tokens_{name}_of_4_g", [b"\x91" + _with(request, "prompt", tag + MANY)]
        yield f"samples_{name}_of_4_g", [b"\x91" + _with(output, "audio_data", b"\x93\xa3<f4\x91\x01" + tag + MANY)]
    for name, opening in OPENINGS.items():
        yield f"unknown_depth_{name}", [b"\x91" + _with(request, "unknown", opening * DEPTH)]
        yield f"prompt_depth_{name}", [b"\x91" + _with(request, "prompt", opening * DEPTH)]
    for name, array in ARRAYS.items():
        yield f"array_{name}", [b"\x91" + _with(output, "audio_data", packed(array)), bytes(8)]
    for name, grammar in JSON.items():
        sampling = {"$type": "SamplingParams", "grammar": grammar}
        yield f"json_{name}", [b"\x91" + _with(request, "sampling_params", packed(sampling))]


ARRAYS: Mapping[str, object] = {
    "too_short": ["<f4", [3], bytes(8)],
    "too_long": ["<f4", [1], bytes(8)],
    "two_dimensions": ["<f4", [2, 1], bytes(8)],
    "no_dimensions": ["<f4", [], bytes(4)],
    "negative": ["<f4", [-2], bytes(8)],
    "product_of_2_to_the_93": ["<f4", [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], b""],
    "of_objects": ["|O8", [1], bytes(8)],
    "of_dates": ["<M8[s]", [1], bytes(8)],
    "of_doubles": ["<f8", [1], bytes(8)],
    "of_text": ["<f4", [2], "12345678"],
    "in_frame_0": ["<f4", [2], 0],
    "in_no_frame": ["<f4", [2], 2],
    "in_frame_2_to_the_40": ["<f4", [2], 2**40],
    "in_a_frame_of_another_size": ["<f4", [3], 1],
}
JSON = {
    "depth": "[" * DEPTH + "]" * DEPTH,
    "depth_of_objects": '{"a":' * DEPTH + "1" + "}" * DEPTH,
    "nan": "NaN",
    "infinity": "[-Infinity]",
    "integer_of_5000_digits": "9" * 5000,
    "cut": '{"type":',
    "nothing": "",
    "two": "1 2",
}


def _shapes() -> Iterator[tuple[str, bytes]]:
    """What is no map of ours at all."""
    for name, opening in OPENINGS.items():
        yield f"depth_{name}", opening * DEPTH
    for name, tag in LIARS.items():
        yield f"{name}_of_4_g", tag + MANY
    yield "nil", b"\xc0"
    yield "reserved", b"\xc1"
    yield "ones", b"\xff" * 64
    yield "timestamp", b"\xd6\xff" + bytes(4)
    yield "extension", b"\xc7\x01\x00\x00"
    yield "map_without_fields", b"\x80"
    yield "map_with_numbers_for_keys", packed({1: 2})
    yield "map_with_a_list_for_a_key", b"\x81\x90\x00"


def _tags(fields: Mapping[str, object], right: str, foreign: str, field: str) -> Iterator[tuple[str, bytes]]:
    """What says wrongly what it is, or says something twice."""
    yield "tag_missing", packed(fields)
    tags: Mapping[str, object] = {"foreign": foreign, "made_up": "os.system", "nil": None, "number": 1, "list": [right]}
    for name, tag in tags.items():
        yield f"tag_{name}", packed({"$type": tag, **fields})
    whole = packed({"$type": right, **fields})
    yield "tag_twice", _with(whole, "$type", packed(foreign))
    yield "field_unknown", _with(whole, "unknown", b"\x01")
    yield "field_unknown_and_long", packed({"$type": right, **fields, "x" * 1500: 1})
    yield "field_unknown_and_a_line", packed({"$type": right, **fields, "x\nmaxpipe: \x1b[31mforged": 1})
    yield "field_twice_the_second_wrong", _with(whole, field, b"\xc0")
    yield "field_twice_the_first_wrong", _with(packed({"$type": right, **fields, field: None}), field, packed("a"))


def _listed_wrongly() -> Iterator[tuple[str, bytes]]:
    """What says wrongly what it is, has too much or too little, or says it as version 2 did."""
    yield "tag_missing", packed([b"a"])
    tags: Mapping[str, object] = {"foreign": "LoRAResponse", "made_up": "os.system", "nil": None, "number": 1}
    for name, tag in {**tags, "list": ["Ping"], "map": {"$type": "Ping"}}.items():
        yield f"tag_{name}", packed([tag, b"a"])
    yield "tag_alone", packed(["Ping"])
    yield "one_too_many", packed(["Ping", b"a", 1])
    yield "many_too_many", packed(["Ping", b"a", *range(5000)])
    yield "a_map", packed({"$type": "Ping", "peer": b"a"})
    yield "tag_long", packed(["x" * 1500, b"a"])
    yield "tag_and_a_line", packed(["Ping\nmaxpipe: \x1b[31mforged", b"a"])


def _listed(*parts: object) -> bytes:
    """An array of fewer than 15 entries that lacks its last one."""
    whole = packed(parts)
    return bytes([whole[0] + 1]) + whole[1:]


def twice(packed_map: bytes, key: str, value: object) -> bytes:
    """A map with a field given once more, as msgpack allows: the last one counts."""
    return _with(packed_map, key, packed(value))


def _with(packed_map: bytes, key: str, value: bytes) -> bytes:
    """A map of fewer than 15 entries with one more, whatever it is."""
    return bytes([packed_map[0] + 1]) + packed_map[1:] + packed(key) + value
