"""Voxtral's processor for any prompt: transformers' takes sounds in conversations that Mistral's package writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import BatchFeature, VoxtralConfig, VoxtralProcessor


class PromptedVoxtral(VoxtralProcessor):
    """A prompt has one placeholder for each sound, which becomes as many as the sound takes.

    A sound is filled up with silence to whole pieces of 30 s, as there; each of them takes 375 tokens.
    """

    def listen(self, config: VoxtralConfig) -> None:
        """Take the placeholder, and how many tokens a piece takes, from the model's configuration."""
        hears: Any = config.audio_config
        self.audio_token = self.tokenizer.convert_ids_to_tokens(config.audio_token_id)
        self.tokens_of_piece = hears.max_source_positions * hears.hidden_size // hears.intermediate_size

    def __call__(
        self,
        text: str,
        audio: Sequence[NDArray[np.float32]] = (),
        *,
        sampling_rate: int = 0,
        return_tensors: str = "np",
    ) -> BatchFeature:
        """Ids of one text, and of its sounds float32 `[pieces, bins, frames]`. ValueError if there are others."""
        first, *rest = text.split(self.audio_token)
        if len(rest) != len(audio):
            raise ValueError(f"{len(rest)} places for sounds, and {len(audio)} sounds")
        pieces = [self._pieces(sound, sampling_rate) for sound in audio]
        told = [self.audio_token * (self.tokens_of_piece * len(heard)) for heard in pieces]
        prompt = first + "".join(place + words for place, words in zip(told, rest, strict=True))
        data: dict[str, object] = {"input_ids": self.tokenizer([prompt])["input_ids"]}
        if pieces:
            data["input_features"] = np.concatenate(pieces)
        return BatchFeature(data, tensor_type=return_tensors)

    def _pieces(self, sound: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        """Mel spectrograms float32 `[pieces, bins, frames]`."""
        hears = self.feature_extractor
        whole = {"padding": True, "truncation": False, "pad_to_multiple_of": int(hears.n_samples)}
        heard = hears(sound, sampling_rate=rate, return_tensors="np", **whole)["input_features"]
        pieces: NDArray[np.float32] = heard.reshape(hears.feature_size, -1, int(hears.nb_max_frames)).swapaxes(0, 1)
        return pieces
