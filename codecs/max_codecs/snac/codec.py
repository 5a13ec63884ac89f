"""SNAC as an `AudioCodec`: exact streaming, from the first frame to the last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from max_interfaces.errors import DeviceLost
from max_interfaces.protocols import StreamStart

from ..slots import Slot
from .model import DType, SnacModel, load_model
from .noise import CounterNoise
from .receptive_field import receptive_field
from .streaming import DecoderStream, StreamingDecoder

# A long push is decoded in pieces: their layers' rows stay in the cache (measured: 8 frames are 1.5 to 2 times faster
# per frame than 16 or more), and memory is bounded however many frames come at once.
_PIECE_FRAMES = 8


class SnacCodec:
    """An `AudioCodec`. Stateful and exact for symmetric (published) and causal decoders alike.

    A symmetric decoder gives out a sample as soon as the latents that it depends on are there, a causal one at once.
    `noise=False` leaves out the noise blocks, if the model has any.
    """

    def __init__(self, model: SnacModel, *, noise: bool = True) -> None:
        self.config = model.config
        self._codebooks = model.codebooks
        self._decoder = StreamingDecoder(model.decoder)
        self._device = next(model.decoder.parameters()).device
        self._noise = noise and model.config.noise
        field = receptive_field(model.config.decoder_rates, causal=model.config.causal)
        self._context, self._lookahead = field.frames(model.config.latents_per_frame)

    @property
    def sample_rate(self) -> int:
        return self.config.sampling_rate

    @property
    def frame_samples(self) -> int:
        return self.config.hop * self.config.latents_per_frame

    @property
    def codes_per_frame(self) -> int:
        return self.config.codes_per_frame

    @property
    def lookahead_frames(self) -> int:
        return self._lookahead

    @property
    def context_frames(self) -> int:
        return self._context

    def open(self, start: StreamStart) -> SnacStream:
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
        noise = CounterNoise(start.seed) if self._noise else None
        latent = start.history_frame * self.config.latents_per_frame
        return SnacStream(self, self._decoder.open(latent, noise, start.next_sample), codes)

    def latents(self, codes: torch.Tensor) -> torch.Tensor:
        """Checked codes int64[n, codes_per_frame] to latents for the decoder."""
        return self._codebooks.latents(codes)

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
        width, size = self.codes_per_frame, self.config.codebook_size
        if frames.ndim != 2 or frames.shape[1] != width or frames.dtype.kind not in "iu":
            raise ValueError(f"frames are {frames.dtype}{list(frames.shape)}: must be integers of shape [n, {width}]")
        if frames.size and not 0 <= int(frames.min()) <= int(frames.max()) < size:
            raise ValueError(f"frames hold codes from {frames.min()} to {frames.max()}: must be 0 to {size - 1}")
        return torch.from_numpy(np.array(frames, np.int64, order="C"))


class SnacStream:
    """A `CodecStream`. One thread owns it; dropping it frees everything."""

    def __init__(self, codec: SnacCodec, decoder: DecoderStream, history: torch.Tensor) -> None:
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
        starts = [0] if last else range(0, max(len(codes), 1), _PIECE_FRAMES)
        pieces = [self._codec.latents(codes[start : start + _PIECE_FRAMES]) for start in starts]
        decoded = [self._decoder.push(latents, last) for latents in pieces]
        samples: NDArray[np.float32] = torch.cat(decoded).float().cpu().numpy()
        return samples

    def _take(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """The history's unheard samples, once, and these."""
        if len(self._unheard):
            samples = np.concatenate([self._unheard, samples])
            self._unheard = samples[:0]
        return samples


def load_codec(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: DType = "float32",
    slots: Sequence[Slot] | None = None,
    noise: bool = True,
) -> SnacCodec:
    """The codec in a folder or of a hub id; arguments and errors as for `load_model`."""
    return SnacCodec(load_model(source, device=device, dtype=dtype, slots=slots), noise=noise)
