"""Codes to sound, in stretches: a diffusion transformer makes mel frames of codes, and BigVGAN samples of these.

Both look around. Within one evaluation of the transformer a block of mel frames sees those blocks beside it that the
configuration names, and an equation is solved by some 36 evaluations, each of which sees a little further: so no part
of a sound is exactly what it would be in one piece before all codes are known. A stretch is decoded with blocks of
context on both sides, the noise of its own frames, and nothing of what was decoded before: what it sounds like does not
depend on how its codes arrive, nor on where a stream was taken up again.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniToken2WavDiTModel,
    Qwen2_5OmniToken2WavModel,
    RungeKutta4ODESolver,
)

from max_interfaces.protocols import StreamStart

from .noise import noise
from .settings import OmniSettings
from .speakers import Speaker

SAMPLE_RATE = 24_000  # BigVGAN's; no configuration of it says so
SWAY = -1.0  # steps are small where sound begins to form (https://arxiv.org/abs/2410.06885)
NOTHING = np.zeros(0, np.float32)


class Voice:
    """One speaker's `AudioCodec`: a frame is one code, and a block of mel frames those codes that it is made of."""

    sample_rate = SAMPLE_RATE
    codes_per_frame = 1

    def __init__(self, model: Qwen2_5OmniToken2WavModel, speaker: Speaker, settings: OmniSettings) -> None:
        self._dit = model.code2wav_dit_model
        self._vocoder = model.code2wav_bigvgan_model
        self._speaker = speaker
        self._settings = settings
        self._repeats: int = self._dit.config.repeats
        hop: int = int(np.prod(self._vocoder.config.upsample_rates))
        self.frame_samples = self._repeats * hop
        self.block: int = max(1, self._dit.config.block_size // self._repeats)

    def stretch(self, number: int) -> int:
        """Codes in stretch `number` of a sound, but for its last."""
        sizes = self._settings.stretch
        return self.block * sizes[min(number, len(sizes) - 1)]

    @property
    def lookahead_frames(self) -> int:
        """Codes that must follow a block."""
        return self._settings.ahead * self.block

    @property
    def context_frames(self) -> int:
        """Codes before a block that it is decoded with."""
        return self._settings.behind * self.block

    def open(self, start: StreamStart) -> OmniStream:
        """Begin a stream, or take one up at `next_sample`, with all codes from the first on. ValueError for others."""
        if start.history is not None:
            raise ValueError("StreamStart.history: codes come from the first on; say next_sample")
        return OmniStream(self, start)

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.int64], first: int, seed: int) -> NDArray[np.float32]:
        """Samples float32[n] of codes int64[codes], the first of them a sound's code number `first`."""
        device = self._speaker.conditioning.device
        frame, count = first * self._repeats, len(codes) * self._repeats
        begin = noise(seed, frame, frame + count, self._dit.config.mel_dim).to(device)
        ids = torch.tensor(np.array(codes, np.int64), device=device)
        mel = solved(self._dit, begin[None], ids[None], self._speaker, self._settings)
        samples: Tensor = self._vocoder(mel.transpose(1, 2))
        found = np.ascontiguousarray(samples.reshape(-1).float().numpy())
        if not np.isfinite(found).all():
            raise ValueError("its sound is no number")
        return found


class OmniStream:
    """The sound of one text. A stretch is given as soon as `ahead` blocks are there behind it."""

    def __init__(self, voice: Voice, start: StreamStart) -> None:
        self._voice = voice
        self._start = start
        self._codes: list[int] = []
        self._decoded = 0  # codes whose samples have been given
        self._stretches = 0
        self._ready: list[NDArray[np.float32]] = []  # a stretch that fails loses none before it

    def push(self, frames: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `CodecStream`."""
        self._codes.extend(frames.reshape(-1).tolist())
        while len(self._codes) >= (last := self._end) + self._voice.lookahead_frames:
            self._ready.append(self._stretch(last))
        ready, self._ready = self._ready, []
        return np.concatenate([NOTHING, *ready])

    def flush(self) -> NDArray[np.float32]:
        """See `CodecStream`."""
        return self._stretch(len(self._codes)) if self._decoded < len(self._codes) else NOTHING

    @property
    def _end(self) -> int:
        """Where the next stretch ends."""
        return self._decoded + self._voice.stretch(self._stretches)

    def _stretch(self, last: int) -> NDArray[np.float32]:
        """The samples of all codes before `last` that have not been given."""
        voice, first = self._voice, self._decoded
        size = voice.frame_samples
        heard, samples = max(first * size, self._start.next_sample), NOTHING
        if heard < last * size:
            begin = max(0, first - voice.context_frames)
            codes = np.array(self._codes[begin : last + voice.lookahead_frames])
            decoded = voice.decode(codes, begin, self._start.seed)
            samples = decoded[heard - begin * size : (last - begin) * size]
        self._decoded = last
        self._stretches += 1
        return samples


def solved(
    dit: Qwen2_5OmniToken2WavDiTModel, begin: Tensor, codes: Tensor, speaker: Speaker, settings: OmniSettings
) -> Tensor:
    """The mel frames float32 `[1, frames, bins]` that noise `begin` of that shape becomes, of `codes` int64[1, codes].

    The same as transformers' `sample`, whose noise cannot be chosen.
    """
    conditioning = speaker.conditioning[:, None].expand(-1, begin.shape[1], -1)

    def velocity(time: Tensor, frames: Tensor) -> Tensor:
        both: Tensor = dit(
            hidden_states=frames,
            quantized_code=codes,
            speaker_embedding=conditioning,
            condition_vector=speaker.reference_mel,
            time_step=time,
            apply_cfg=True,
        )
        said, unsaid = both.chunk(2)
        return said + (said - unsaid) * settings.guidance

    times = torch.linspace(0, 1, settings.steps, device=begin.device)
    times = times + SWAY * (torch.cos(torch.pi / 2 * times) - 1 + times)
    solver = RungeKutta4ODESolver(velocity, begin)  # type: ignore[no-untyped-call]
    frames: Tensor = solver.integrate(times)[-1]  # type: ignore[no-untyped-call]
    return frames
