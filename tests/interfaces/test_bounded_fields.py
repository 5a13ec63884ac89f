"""No public type has a field in which a value may be as long or as large as it likes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, get_args

import msgspec
import numpy as np
import pytest
from msgspec import Meta
from numpy.typing import NDArray

from max_interfaces import messages, mirrors, protocols
from max_interfaces.wire import Payload
from max_pipelines.config import Config
from tests.interfaces.public_types import parts_of, public_dataclasses, structs_of, unbounded_fields

HEADERS = get_args(messages.Header)
PUBLIC = parts_of(
    [
        *public_dataclasses(),
        *structs_of(messages),
        *structs_of(mirrors),
        *structs_of(protocols),
        Config,
        *(mirrors.mirrors[kind] for kind in parts_of(get_args(Payload))),
    ]
)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_field_has_a_bound(kind: type) -> None:
    assert unbounded_fields(kind) == []


def test_the_walk_reaches_what_it_should() -> None:
    names = {kind.__name__ for kind in PUBLIC}
    assert {"SamplingParams", "Failure", "WordTimestamp", "Json", "Attempt", "TokenDelta"} <= names
    assert {"ChunkHead", "ModelInfo", "Delivery", "Submit", "Limits", "ArrayMirror"} <= names
    assert {"Held", "Note", "WorkerReport"} <= names  # parts of messages alone
    assert {kind.__name__ for kind in HEADERS} <= names


@dataclass(frozen=True)
class Loose:
    """One field for each way of having no bound, and one in order."""

    text: str
    raw: bytes
    number: int
    factor: float
    half: Annotated[int, Meta(ge=0)]
    other_half: Annotated[float, Meta(le=1)]
    maybe: int | None
    ids: tuple[Annotated[int, Meta(ge=0, le=9)], ...]
    deep: Annotated[tuple[str, ...], Meta(max_length=9)]
    table: Mapping[bool, bool]
    keys: Annotated[Mapping[str, bool], Meta(max_length=9)]
    array: NDArray[np.int64]
    anything: object
    fine: Annotated[tuple[Annotated[str, Meta(max_length=9)], ...], Meta(max_length=9)] | None


class LooseStruct(msgspec.Struct):
    text: str
    items: list[bool]
    fine: Annotated[float, Meta(gt=0, lt=1)]


def test_a_field_without_a_bound_is_found() -> None:
    found = [problem.split(":")[0].removeprefix("Loose.") for problem in unbounded_fields(Loose)]
    assert found == [name for name in Loose.__annotations__ if name != "fine"]
    assert [problem.split(":")[0] for problem in unbounded_fields(LooseStruct)] == [
        "LooseStruct.text",
        "LooseStruct.items",
    ]
