"""The head that tells from a codec's codes which phone sounds: what the times of words are found by."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from max_interfaces.errors import ConfigError

from .codebooks import Codebooks
from .config import AlignerConfig, SnacConfig
from .files import ALIGNER, CONFIG, CodecFiles
from .mel_encoder import Stack
from .weights import State, read_weights


class SnacPhones:
    """A causal stack over the latents of a codec that it is trained with. See `PhoneHead`."""

    def __init__(self, config: AlignerConfig, state: State, codebooks: Codebooks, latent: int, steps: int) -> None:
        """`state` are the stack's parameters, `steps` the latents of a frame. ValueError for what does not fit."""
        self.first_phone = config.first_phone
        self.phones = config.phones
        self.pause = config.pause - config.first_phone
        self.steps_per_frame = steps
        self._codebooks = codebooks
        self._stack = Stack(latent, config.stack.width, config.phones, config.stack.depth, causal=True)
        self.context_frames = math.ceil(self._stack.context / steps)
        try:
            self._stack.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[-1].strip()) from error
        self._stack.to(codebooks.device).requires_grad_(False).eval()

    @torch.inference_mode()
    def scores(self, frames: NDArray[np.int64], skip: int) -> NDArray[np.float32]:
        """See `PhoneHead.scores`."""
        latents = self._codebooks.latents(torch.from_numpy(np.array(frames, np.int64, order="C"))).float()
        scores = self._stack(latents.t()[None])[0].t().log_softmax(1)
        told: NDArray[np.float32] = scores[skip * self.steps_per_frame :].cpu().numpy()
        return told


def load_phones(files: CodecFiles, config: SnacConfig, codebooks: Codebooks) -> SnacPhones | None:
    """The head beside a codec's files, if its configuration has one. ConfigError, with the path, if that is missing or
    does not fit.
    """
    if config.aligner is None:
        return None
    path = files.beside(ALIGNER)
    state = read_weights(path)
    try:
        return SnacPhones(config.aligner, state, codebooks, config.latent, config.latents_per_frame)
    except ValueError as error:
        raise ConfigError(f"{path}: does not fit {CONFIG}: {error}") from error
