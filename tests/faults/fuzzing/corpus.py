"""The seed files: right ones, one of each type, and wrong ones, one for each kind of trouble.

`right/` must be decoded and `wrong/` refused; the fuzzer damages both. The frames of one message are NAME.bin and, for
payloads with arrays in frames of their own, NAME.1.bin and so on. `python -m tests.faults.fuzzing.corpus` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from max_interfaces import AudioGenerationOutput, GenerationStatus
from max_interfaces.messages import encode_header
from max_interfaces.wire import encode_payload
from tests.faults.fuzzing.examples import HEADERS, PAYLOADS
from tests.faults.fuzzing.troubles import Frames, packed, twice, wrong_headers, wrong_payloads

FOLDER = Path(__file__).parents[1] / "corpus"
IN_A_FRAME = {
    "$type": "AudioGenerationOutput",
    "final_status": "active",
    "steps_executed": 1,
    "audio_data": ["<f4", [2], 1],
    "buffer_speech_tokens": ["<i8", [1], 2],
}


@dataclass(frozen=True)
class Seeds:
    """Messages of one kind, `headers` or `payloads`, by name."""

    right: dict[str, Frames]
    wrong: dict[str, Frames]

    @classmethod
    def load(cls, kind: str) -> Seeds:
        """Those that are kept."""
        return cls(_read(FOLDER / kind / "right"), _read(FOLDER / kind / "wrong"))

    @property
    def all(self) -> list[Frames]:
        """All of them, in an order that does not change. The right ones more often: they lead further."""
        return 4 * [self.right[name] for name in sorted(self.right)] + [self.wrong[name] for name in sorted(self.wrong)]


def _read(folder: Path) -> dict[str, Frames]:
    found: dict[str, dict[int, bytes]] = {}
    for file in folder.glob("*.bin"):
        name, _, number = file.stem.partition(".")
        frames = found.setdefault(name, {})
        if number != "none":
            frames[int(number or 0)] = file.read_bytes()
    return {name: [frames[number] for number in sorted(frames)] for name, frames in found.items()}


def _write(folder: Path, messages: Iterable[tuple[str, Frames]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.bin"):
        old.unlink()
    for name, frames in messages:
        for number, frame in enumerate(frames):
            (folder / (f"{name}.{number}.bin" if number else f"{name}.bin")).write_bytes(frame)
        if not frames:
            (folder / f"{name}.none.bin").write_bytes(b"")


def _right_headers() -> Iterator[tuple[str, Frames]]:
    for header in HEADERS:
        yield type(header).__name__, [encode_header(header)]


def _right_payloads() -> Iterator[tuple[str, Frames]]:
    for item in PAYLOADS:
        yield type(item).__name__, [bytes(frame) for frame in encode_payload([item])]
    yield "several", [bytes(frame) for frame in encode_payload(PAYLOADS)]
    request = packed({"$type": "AudioGenerationRequest", "request_id": "a", "model": "m", "input": "hi"})
    yield "field_twice", [b"\x91" + twice(request, "model", "n")]
    large = AudioGenerationOutput(GenerationStatus.ACTIVE, 1, np.array([1e30, -3e38], np.float32))
    yield "large_samples", [bytes(frame) for frame in encode_payload([large])]
    yield "in_frames", [msgspec.msgpack.encode([IN_A_FRAME]), bytes(8), bytes(8)]


def main() -> None:
    """Write all of them anew."""
    _write(FOLDER / "headers" / "right", _right_headers())
    _write(FOLDER / "headers" / "wrong", wrong_headers())
    _write(FOLDER / "payloads" / "right", _right_payloads())
    _write(FOLDER / "payloads" / "wrong", wrong_payloads())
    print(sum(file.stat().st_size for file in FOLDER.rglob("*.bin")), "bytes")


if __name__ == "__main__":
    main()
