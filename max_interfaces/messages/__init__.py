"""The control messages between client, dispatcher and worker.

A message is one ZeroMQ multipart: first the header, a version byte and a tagged msgpack array; then, on some, payload
frames (`wire.encode_payload`), which the dispatcher passes on without reading them.

    client ──▶ dispatcher   Submit+payload  Cancel  Read  Describe  Inspect  Adapt  Ping  Goodbye
    dispatcher ──▶ client   Described  Report  Adapted  Delivery+payload  Ended  Watch
    dispatcher ──▶ worker   Start+payload  Stop  Pace  Equip  Beat  Retire
    worker ──▶ dispatcher   Alive  Ready  Delivery+payload  Noted  Ended  Unfit

Any of them may be lost, repeated or late, and each can be told: a client numbers its submissions (`serial`), the
dispatcher its attempts and its lists of adapters (`revision`), a worker its outputs (`seq`) and tokens (`first_token`).
"""

from .client import (
    Adapt,
    Adapted,
    Cancel,
    Describe,
    Described,
    Goodbye,
    Inspect,
    Ping,
    Read,
    Report,
    Submit,
    Watch,
    WorkerReport,
)
from .coding import ClientMessage, Header, ToClient, ToWorker, WorkerMessage, decode_header, encode_header
from .header import (
    LONGEST_S,
    MAX_HEADER_BYTES,
    PROTOCOL_MARK,
    PROTOCOL_VERSION,
    AdapterPath,
    Gauges,
    IdText,
    Message,
    Names,
    Peer,
    Wait,
)
from .models import ModelInfo, Models, Pause
from .outputs import ChunkHead, Delivery, Ended, Note, Noted
from .worker import (
    MAX_ADAPTERS,
    Adapter,
    Alive,
    Beat,
    Credits,
    Equip,
    Fitted,
    Generations,
    Held,
    Pace,
    Ready,
    Retire,
    Start,
    Stop,
    Unfit,
)

__all__ = [
    "LONGEST_S",
    "MAX_ADAPTERS",
    "MAX_HEADER_BYTES",
    "PROTOCOL_MARK",
    "PROTOCOL_VERSION",
    "Adapt",
    "Adapted",
    "Adapter",
    "AdapterPath",
    "Alive",
    "Beat",
    "Cancel",
    "ChunkHead",
    "ClientMessage",
    "Credits",
    "Delivery",
    "Describe",
    "Described",
    "Ended",
    "Equip",
    "Fitted",
    "Gauges",
    "Generations",
    "Goodbye",
    "Header",
    "Held",
    "IdText",
    "Inspect",
    "Message",
    "ModelInfo",
    "Models",
    "Names",
    "Note",
    "Noted",
    "Pace",
    "Pause",
    "Peer",
    "Ping",
    "Read",
    "Ready",
    "Report",
    "Retire",
    "Start",
    "Stop",
    "Submit",
    "ToClient",
    "ToWorker",
    "Unfit",
    "Wait",
    "Watch",
    "WorkerMessage",
    "WorkerReport",
    "decode_header",
    "encode_header",
]
