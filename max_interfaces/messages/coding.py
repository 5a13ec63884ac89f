"""Messages to header frames and back."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from ..errors import WireError
from ..problems import told
from ..wire import Frame
from .client import Adapt, Adapted, Cancel, Describe, Described, Goodbye, Inspect, Ping, Read, Report, Submit, Watch
from .header import MAX_HEADER_BYTES, PROTOCOL_MARK, PROTOCOL_VERSION
from .outputs import Delivery, Ended, Noted
from .worker import Alive, Beat, Equip, Pace, Ready, Retire, Start, Stop, Unfit

ClientMessage: TypeAlias = Submit | Cancel | Read | Describe | Inspect | Adapt | Ping | Goodbye
WorkerMessage: TypeAlias = Alive | Ready | Delivery | Noted | Ended | Unfit
ToClient: TypeAlias = Described | Report | Adapted | Delivery | Ended | Watch
ToWorker: TypeAlias = Start | Stop | Pace | Equip | Beat | Retire
Header: TypeAlias = ClientMessage | WorkerMessage | ToClient | ToWorker

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


def encode_header(message: Header) -> bytes:
    """The header frame of a message."""
    return PROTOCOL_MARK + _encoder.encode(message)


def decode_header(frame: Frame) -> Header:
    """The message of a header frame. WireError for anything else, whatever the bytes; too many are not looked at."""
    if len(frame) > MAX_HEADER_BYTES:
        raise WireError(f"a header of {len(frame)} bytes; the largest has {MAX_HEADER_BYTES}")
    if not len(frame) or frame[0] != PROTOCOL_VERSION:
        got = f"version {frame[0]}" if len(frame) else "an empty frame"
        raise WireError(f"this end speaks protocol version {PROTOCOL_VERSION}, the other sent {got}")
    try:
        message: Header = _decoder.decode(frame[1:])
    except (ValueError, RecursionError) as problem:
        raise WireError(f"header refused: {told(problem)}") from None
    return message
