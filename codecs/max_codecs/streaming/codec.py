"""A quantizer and a streaming decoder as an `AudioCodec`: exact, from the first frame to the last."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from max_interfaces.errors import DeviceLost
from max_interfaces.protocols import StreamStart

from .decoder import DecoderStream, StreamingDecoder
from .quantizer import Quantizer
from .receptive_field import receptive_field
from .stage import NoiseSource

# A long push is decoded in pieces: their layers' rows stay in the cache (measured: 8 frames of SNAC are 1.5 to 2 times
# faster per frame than 16 or more), and memory is bounded however many frames come at once.
_PIECE_SAMPLES = 16_384
_MOST_FRAMES = 2**20  # a sound has no more: what a codec says that looks back to the beginning


@dataclass(frozen=True, slots=True)
class CodecShape:
    """The numbers of a codec: samples per second and per frame, codes and latent steps in a frame, codes to choose."""

    sample_rate: int
    frame_samples: int
    codes_per_frame: int
    codebook_size: int
    latents_per_frame: int = 1


class StreamingCodec:
    """An `AudioCodec` over any quantizer and stages. Stateful and exact for symmetric and causal decoders alike.

    A symmetric decoder gives out a sample as soon as the latents that it depends on are there, a causal one at once.
    """

    def __init__(
        self, shape: CodecShape, quantizer: Quantizer, decoder: StreamingDecoder, device: torch.device
    ) -> None:
        self.shape = shape
        self._quantizer = quantizer
        self._decoder = decoder
        self._device = device
        context, self._lookahead = receptive_field(decoder.stages).frames(shape.latents_per_frame)
        self._context = min(context, _MOST_FRAMES)

    @property
    def sample_rate(self) -> int:
        return self.shape.sample_rate

    @property
    def frame_samples(self) -> int:
        return self.shape.frame_samples

    @property
    def codes_per_frame(self) -> int:
        return self.shape.codes_per_frame

    @property
    def codebook_size(self) -> int:
        """How many codes there are to choose from for each of a frame."""
        return self.shape.codebook_size

    @property
    def lookahead_frames(self) -> int:
        return self._lookahead

    @property
    def context_frames(self) -> int:
        return self._context

    def open(self, start: StreamStart) -> DecodedStream:
        """See `AudioCodec.open`. The samples are exact where `context_frames` frames of history come before them.

        ValueError for a history of the wrong shape or with codes out of range, and for a `next_sample` outside it.
        """
        history = np.zeros((0, self.codes_per_frame), np.int64) if start.history is None else start.history
        codes = self.checked(history)
        begin = start.history_frame * self.frame_samples
        end = begin + len(history) * self.frame_samples
        if start.history_frame < 0 or not begin <= start.next_sample <= end:
            raise ValueError(
                f"next_sample={start.next_sample}: a history of {len(history)} frames from frame"
                f" {start.history_frame} on holds the samples {begin} to {end}"
            )
        latent = start.history_frame * self.shape.latents_per_frame
        return DecodedStream(self, self._decoder.open(latent, self.noise(start), start.next_sample), codes)

    def noise(self, start: StreamStart) -> NoiseSource | None:
        """The noise of a stream; none here."""
        return None

    def pieces(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """Checked codes int64[n, codes_per_frame] to latents for the decoder, piece by piece; one piece at least."""
        size = max(1, _PIECE_SAMPLES // self.frame_samples)
        starts = range(0, max(len(codes), 1), size)
        return [self._quantizer.latents(codes[start : start + size]) for start in starts]

    def answers(self) -> bool:
        """False if the device has failed for good. After a step that failed, a GPU alone can tell."""
        if self._device.type != "cuda":
            return True
        try:
            torch.cuda.synchronize(self._device)
        except RuntimeError:
            return False
        return True

    def checked(self, frames: NDArray[np.int64]) -> torch.Tensor:
        """A copy of frames int64[n, codes_per_frame]; ValueError says what is wrong with them."""
        width, size = self.codes_per_frame, self.codebook_size
        if frames.ndim != 2 or frames.shape[1] != width or frames.dtype.kind not in "iu":
            raise ValueError(f"frames are {frames.dtype}{list(frames.shape)}: must be integers of shape [n, {width}]")
        if frames.size and not 0 <= int(frames.min()) <= int(frames.max()) < size:
            raise ValueError(f"frames hold codes from {frames.min()} to {frames.max()}: must be 0 to {size - 1}")
        return torch.from_numpy(np.array(frames, np.int64, order="C"))


class DecodedStream:
    """A `CodecStream`. One thread owns it; dropping it frees everything."""

    def __init__(self, codec: StreamingCodec, decoder: DecoderStream, history: torch.Tensor) -> None:
        self._codec = codec
        self._decoder = decoder
        self._flushed = False
        self._unheard = self._decode(history)

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `CodecStream.push`. ValueError for frames of the wrong shape or range; RuntimeError after `flush`."""
        codes = self._codec.checked(frames)
        return self._take(self._decode(codes))

    def flush(self) -> NDArray[np.float32]:
        """See `CodecStream.flush`. RuntimeError when called again."""
        rest = self._decode(torch.zeros(0, self._codec.codes_per_frame, dtype=torch.int64), last=True)
        self._flushed = True
        return self._take(rest)

    def _decode(self, codes: torch.Tensor, last: bool = False) -> NDArray[np.float32]:
        """The samples that are certain now. DeviceLost if there will never be any."""
        if self._flushed:
            raise RuntimeError("the stream was flushed: open another one")
        try:
            return self._decoded(codes, last)
        except RuntimeError as problem:
            if self._codec.answers():
                raise
            raise DeviceLost(f"{type(problem).__name__}: {problem}") from problem

    @torch.inference_mode()
    def _decoded(self, codes: torch.Tensor, last: bool) -> NDArray[np.float32]:
        decoded = [self._decoder.push(latents, last) for latents in self._codec.pieces(codes)]
        samples: NDArray[np.float32] = torch.cat(decoded).float().cpu().numpy()
        return samples

    def _take(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The history's unheard samples, once, and these."""
        if len(self._unheard):
            samples = np.concatenate([self._unheard, samples])
            self._unheard = samples[:0]
        return samples
