"""A codec whose codes are pitches: code c is a tone of c semitones above the lowest, 20 ms long."""

import numpy as np
from numpy.typing import NDArray

from max_interfaces import StreamStart
from max_pipelines.config import Config

RATE, FRAME = 8000, 160  # samples per second, and in a frame


class Tones:
    """Has no look-ahead, and each frame begins at phase 0: so it needs no frame before it, either."""

    sample_rate, frame_samples, codes_per_frame, lookahead_frames, context_frames = RATE, FRAME, 1, 0, 0

    def __init__(self, lowest: float) -> None:
        self.lowest = lowest  # Hz

    def open(self, start: StreamStart) -> "ToneStream":
        return ToneStream(self, start)

    def sound(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        if frames.ndim != 2 or frames.shape[1] != 1:
            raise ValueError(f"frames have shape {list(frames.shape)}: must be [n, 1]")
        pitch = self.lowest * 2.0 ** (frames % 36 / 12)  # three octaves
        return (0.3 * np.sin(2 * np.pi * pitch * np.arange(FRAME) / RATE)).astype(np.float32).ravel()


class ToneStream:
    def __init__(self, codec: Tones, start: StreamStart) -> None:
        self.codec = codec
        history = np.zeros((0, 1), np.int64) if start.history is None else start.history
        self.unheard = codec.sound(history)[start.next_sample - start.history_frame * FRAME :]  # after a resume

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        samples, self.unheard = np.concatenate([self.unheard, self.codec.sound(frames)]), self.unheard[:0]
        return samples

    def flush(self) -> NDArray[np.float32]:
        return self.push(np.zeros((0, 1), np.int64))


def build(config: Config) -> Tones:
    return Tones(float(str(config.codec.options.get("lowest", 200))))
