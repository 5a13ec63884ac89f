"""Sound that is faster or slower, at the same pitch."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as AtItsEnd
from av.filter import Graph
from numpy.typing import NDArray

from .frames import FLOAT, MONO, Frames, samples_of

SLOWEST, FASTEST = 0.25, 4.0  # as the OpenAI API has it
SLOWEST_FILTER = 0.5  # of one; slower takes two
BLOCK = 512  # samples; a filter's rounding would else depend on how the sound is cut


class Tempo:
    """FFmpeg's `atempo`: overlapping pieces are shifted until they fit (WSOLA).

    Pieces of any size give the same joined sound. Speed 1 passes everything on as it is, at once. ValueError for a
    speed that is not in 0.25 to 4.
    """

    def __init__(self, rate: int, speed: float) -> None:
        if not SLOWEST <= speed <= FASTEST:
            raise ValueError(f"speed = {speed}: must be {SLOWEST} to {FASTEST}")
        self._frames = Frames(rate)
        self._held: NDArray[np.float32] = np.zeros(0, np.float32)  # less than a block
        self._graph = None if speed == 1.0 else _graph(rate, speed)
        self._early = 0.0 if speed == 1.0 else _early(rate, speed)

    @property
    def early_s(self) -> float:
        """So many seconds before its time something is heard that begins behind silence, on average.

        A piece may lie in the sound anywhere within its own length: at 0.5 and faster an onset is up to 40 ms away
        from that, at 0.25 up to 100 ms.
        """
        return self._early

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples [n]; those [m] that are ready, maybe none."""
        if self._graph is None:
            return samples
        samples = np.concatenate([self._held, samples])
        whole = samples.size - samples.size % BLOCK
        for first in range(0, whole, BLOCK):
            self._graph.push(self._frames.frame(samples[first : first + BLOCK]))
        self._held = samples[whole:]
        return self._ready(self._graph)

    def flush(self) -> NDArray[np.float32]:
        """The last samples. Nothing may be pushed afterwards."""
        if self._graph is None:
            return samples_of([])
        if self._held.size:
            self._graph.push(self._frames.frame(self._held))
        self._graph.push(None)
        return self._ready(self._graph)

    def _ready(self, graph: Graph) -> NDArray[np.float32]:
        frames: list[av.AudioFrame] = []
        while True:
            try:
                frame = graph.pull()
            except (NothingYet, AtItsEnd):
                return samples_of(frames)
            if isinstance(frame, av.AudioFrame):
                frames.append(frame)


def _speeds(speed: float) -> list[float]:
    """Of the filters, each within its own bounds."""
    return [speed] if speed >= SLOWEST_FILTER else [SLOWEST_FILTER, speed / SLOWEST_FILTER]


def _early(rate: int, speed: float) -> float:
    """Each filter is early by half a piece of the sound before it, and makes as much longer what the one before is.

    FFmpeg's pieces are of 1/24 s, in samples rounded up to a power of two.
    """
    piece = (1 << (rate // 24 - 1).bit_length()) / rate
    early = 0.0
    for part in _speeds(speed):
        early = (early + piece / 2) / part
    return early


def _graph(rate: int, speed: float) -> Graph:
    """One filter after the other."""
    graph = Graph()
    last = graph.add_abuffer(format=FLOAT, sample_rate=rate, layout=MONO, time_base=Fraction(1, rate))
    for part in _speeds(speed):
        following = graph.add("atempo", f"{part:.6f}")
        last.link_to(following)
        last = following
    sink = graph.add("abuffersink")
    last.link_to(sink)
    graph.configure()
    return graph
