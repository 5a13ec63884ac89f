"""The sounds of several requests as one: numbered through, with pauses of natural length between sentences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.silence import faded, quiet_before, quiet_behind
from max_interfaces import AudioGenerationMetadata, AudioGenerationOutput, GenerationStatus
from max_interfaces.messages import ModelInfo

from ..speech.splitting import Part
from .outputs import rebuilt

FADE_S = 0.005  # into a pause and out of it: too short to hear, long enough not to click
KEPT_S = 0.05  # of silence before what is heard next: a soft consonant begins there
NO_SOUND: NDArray[np.float32] = np.zeros(0, np.float32)


class Joiner:
    """Turns the outputs of several requests into those of one.

    Silence is held back at the end of a part until it is known what follows. If that is another part, what is silent
    at its end and at the beginning of the next makes the pause: filled up to the model's shortest, or cut to its
    longest. Nothing that can be heard is ever cut, nor is the end of the whole.
    """

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._rate = info.sample_rate
        self._least, self._most = round(info.shortest_pause_s * self._rate), round(info.longest_pause_s * self._rate)
        self._chunks = self._steps = 0
        self._prompts = 0  # tokens of the prompts of the parts that have ended
        self._held = NO_SOUND  # the last samples, as long as they may be the end of a part
        self._given = 0  # silent samples that were given out just before those
        self._pausing = False  # a part has ended, and nothing of the next is heard yet
        self._lead = NO_SOUND  # the next part's silence
        self.ended = False

    def join(self, output: AudioGenerationOutput, part: Part, last: bool) -> AudioGenerationOutput:
        """The output as part of the whole; `last` for the outputs of what is known to be the last part."""
        if self._pausing:
            samples = self._begun(output.audio_data, last and output.is_done)
        else:
            samples, self._held = np.concatenate([self._held, output.audio_data]), NO_SOUND
        status = output.final_status
        if not last:
            status = GenerationStatus.ACTIVE
            if not (part.joined or self._pausing):
                samples = self._hold_back(samples)
                self._pausing = output.is_done
        return self._numbered(output, samples, status)

    def end(self) -> AudioGenerationOutput:
        """The last output, where the one before it did not know that it was."""
        metadata = AudioGenerationMetadata(sample_rate=self._rate, model_name=self._info.name)
        last = AudioGenerationOutput(GenerationStatus.END_OF_SEQUENCE, 0, metadata=metadata)
        return self._numbered(last, np.concatenate([self._held, self._lead]), GenerationStatus.END_OF_SEQUENCE)

    @property
    def _fade(self) -> int:
        return round(FADE_S * self._rate)

    def _hold_back(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """All but the silence at the end, as far as a pause may need it, and what would have to be faded out."""
        quiet = quiet_behind(samples)
        kept = min(samples.size, max(min(quiet, self._most), self._fade))
        self._given = max(0, quiet - kept) + (self._given if quiet == samples.size else 0)
        self._held = samples[samples.size - kept :]
        return samples[: samples.size - kept]

    def _begun(self, samples: NDArray[np.float32], end: bool) -> NDArray[np.float32]:
        """The pause and what follows it, once something of that can be heard; before that nothing."""
        lead = np.concatenate([self._lead, samples])
        quiet = quiet_before(lead)
        self._lead = NO_SOUND
        if quiet < lead.size:
            self._pausing = False
            samples, self._held = self._bridged(lead, quiet), NO_SOUND
            return samples
        if end:
            return np.concatenate([self._held, lead])
        self._lead = lead[max(0, lead.size - self._most) :]  # more of it would be cut
        return NO_SOUND

    def _bridged(self, following: NDArray[np.float32], quiet: int) -> NDArray[np.float32]:
        """The samples that are held, a pause, and the `following`, of which so many are silent."""
        before = self._held
        silent = self._given + quiet_behind(before) + quiet
        wanted = min(max(silent, self._least), self._most)
        surplus = max(0, silent - wanted)
        start = min(surplus, max(0, quiet - round(KEPT_S * self._rate)))
        stop = before.size - min(surplus - start, quiet_behind(before))
        filling = np.zeros(wanted - silent + surplus, np.float32)
        return np.concatenate([faded(before[:stop], self._fade, -1), filling, faded(following[start:], self._fade, 1)])

    def _numbered(
        self, output: AudioGenerationOutput, samples: NDArray[np.float32], status: GenerationStatus
    ) -> AudioGenerationOutput:
        self._steps += output.steps_executed
        number, self._chunks = self._chunks, self._chunks + 1
        self.ended = status.is_done
        prompts = self._prompts + (output.metadata.prompt_tokens or 0)
        if output.is_done:
            self._prompts = prompts
        metadata: AudioGenerationMetadata = replace(
            output.metadata,
            chunk_id=number,
            duration=samples.size / self._rate,
            final_chunk=status.is_done,
            tokens_generated=self._steps,
            prompt_tokens=prompts,
        )
        return rebuilt(output, audio_data=samples, final_status=status, metadata=metadata)
