"""What all headers share: their version, their form, and the bounds of what stands in several of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from ..bounds import Name
from ..identity import MAX_ID_LENGTH

PROTOCOL_VERSION = 3
PROTOCOL_MARK = bytes([PROTOCOL_VERSION])

# The most entries that a list may have, 65,536, with the longest ids, 128 characters of four bytes, make 34 MiB of
# `Alive.held` and 39 MiB of `Delivery.heads` with a token each; a `Start` with 2^20 tokens has 5 MiB. The bounds of a
# list and of what is in it, multiplied, allow more: so many heads with so many tokens each have 320 GB, and nobody
# sends that. To decode a header of this size takes at most 12 times as much: tokens of one byte become pointers.
MAX_HEADER_BYTES = 2**26

LONGEST_S = 86_400.0  # that the wire can carry

IdText = Annotated[str, Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Peer = Annotated[bytes, Meta(min_length=1, max_length=64)]
Names = Annotated[tuple[Name, ...], Meta(max_length=4096)]
Message = Annotated[str, Meta(max_length=4096)]
Wait = Annotated[float, Meta(ge=0, le=LONGEST_S)]
AdapterPath = Annotated[str, Meta(max_length=4096)]
Gauges = Annotated[Mapping[Name, Annotated[int, Meta(ge=-(2**62), le=2**62)]], Meta(max_length=256)]


class Tagged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, tag=True):
    """What every header shares. An array: the keys of maps cost a sleeping road 20 us there and back."""
