"""What all sections of a config are made of."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from max_interfaces.bounds import Name

Scalar: TypeAlias = (
    bool
    | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[float, Meta(ge=-1e308, le=1e308)]
    | Annotated[str, Meta(max_length=4096)]
    | None
)
OptionValue: TypeAlias = Scalar | Annotated[list[Scalar], Meta(max_length=4096)]
FrameCount: TypeAlias = Annotated[int, Meta(ge=1, le=4096)]
Names: TypeAlias = Annotated[tuple[Name, ...], Meta(max_length=1024)]
Path_: TypeAlias = Annotated[str, Meta(min_length=1, max_length=4096)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every section shares."""
