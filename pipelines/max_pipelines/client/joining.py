"""The sounds of several requests as one: numbered through, with pauses of natural length between sentences."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.silence import faded, quiet_before, quiet_behind
from max_interfaces import AudioGenerationMetadata, AudioGenerationOutput, GenerationStatus, WordTimestamp
from max_interfaces.messages import ModelInfo

from ..speech.splitting import Part
from .outputs import rebuilt
from .transcript import Transcript

FADE_S = 0.005  # into a pause and out of it: too short to hear, long enough not to click
KEPT_S = 0.05  # of silence before what is heard next: a soft consonant begins there
NO_SOUND: NDArray[np.float32] = np.zeros(0, np.float32)


class Joiner:
    """Turns the outputs of several requests into those of one.

    Silence is held back at the end of a part until it is known what follows. If that is another part, what is silent
    at its end and at the beginning of the next makes the pause: filled up to the model's shortest, or cut to its
    longest. Nothing that can be heard is ever cut, nor is the end of the whole. Words wait for that, too: before, it is
    not known when they are heard in the whole.
    """

    def __init__(self, info: ModelInfo, transcript: Transcript) -> None:
        """The parts are those of the text in `transcript`."""
        self._info = info
        self._transcript = transcript
        self._rate = info.sample_rate
        self._least, self._most = round(info.shortest_pause_s * self._rate), round(info.longest_pause_s * self._rate)
        self._chunks = self._steps = 0
        self._prompts = 0  # tokens of the prompts of the parts that have ended
        self._held = NO_SOUND  # the last samples, as long as they may be the end of a part
        self._given = 0  # silent samples that were given out just before those
        self._pausing = False  # a part has ended, and nothing of the next is heard yet
        self._lead = NO_SOUND  # the next part's silence
        self._let_go = 0  # samples before it, which would be cut anyway
        self._samples = 0  # that were given out
        self._fresh = True  # the next output begins a part
        self._start = 0  # where in the whole the part begins; as long as its pause is not certain, if nothing were cut
        self._earliest = 0  # where in the whole it goes on behind the last pause
        self._untold: list[tuple[int, tuple[WordTimestamp, ...]]] = []  # words, and where their part begins
        self.ended = False

    def join(self, output: AudioGenerationOutput, part: Part, last: bool) -> AudioGenerationOutput:
        """The output as part of the whole; `last` for the outputs of what is known to be the last part."""
        if self._fresh:
            self._start = self._samples + self._held.size + self._let_go + self._lead.size
        self._fresh = output.is_done
        if output.metadata.words:
            self._untold.append((self._start, output.metadata.words))
        if self._pausing:
            samples = self._begun(output.audio_data, last and output.is_done)
        else:
            samples, self._held = np.concatenate([self._held, output.audio_data]), NO_SOUND
        words = () if self._pausing else self._told()
        status = output.final_status
        if not last:
            status = GenerationStatus.ACTIVE
            if not (part.joined or self._pausing):
                samples = self._hold_back(samples)
                self._pausing = output.is_done
        return self._numbered(output, samples, status, words)

    def end(self) -> AudioGenerationOutput:
        """The last output, where the one before it did not know that it was."""
        metadata = AudioGenerationMetadata(sample_rate=self._rate, model_name=self._info.name)
        last = AudioGenerationOutput(GenerationStatus.END_OF_SEQUENCE, 0, metadata=metadata)
        samples = self._unbridged(self._lead)
        return self._numbered(last, samples, GenerationStatus.END_OF_SEQUENCE, self._told())

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
        if quiet == lead.size and not end:
            cut = max(0, lead.size - self._most)
            self._lead, self._let_go = lead[cut:], self._let_go + cut
            return NO_SOUND
        self._pausing = False
        samples = self._bridged(lead, quiet) if quiet < lead.size else self._unbridged(lead)
        self._held = self._lead = NO_SOUND
        return samples

    def _bridged(self, following: NDArray[np.float32], quiet: int) -> NDArray[np.float32]:
        """The samples that are held, a pause, and the `following`, of which so many are silent."""
        before = self._held
        silent = self._given + quiet_behind(before) + quiet
        wanted = min(max(silent, self._least), self._most)
        surplus = max(0, silent - wanted)
        start = min(surplus, max(0, quiet - round(KEPT_S * self._rate)))
        stop = before.size - min(surplus - start, quiet_behind(before))
        filling = np.zeros(wanted - silent + surplus, np.float32)
        self._go_on(stop + filling.size, start)
        return np.concatenate([faded(before[:stop], self._fade, -1), filling, faded(following[start:], self._fade, 1)])

    def _unbridged(self, following: NDArray[np.float32]) -> NDArray[np.float32]:
        """The samples that are held and the `following`, in which nothing is heard up to the end of the whole."""
        self._go_on(self._held.size, 0)
        return np.concatenate([self._held, following])

    def _go_on(self, behind: int, first: int) -> None:
        """So many samples behind those given out, the silence that waited is heard, from its sample `first` on."""
        shift = behind - self._held.size - self._let_go - first
        self._untold = [(start + shift, words) for start, words in self._untold]
        self._start += shift
        self._let_go = 0
        self._earliest = self._samples + behind

    def _told(self) -> tuple[WordTimestamp, ...]:
        """The words that wait, which are now known to be heard when."""
        untold, self._untold = self._untold, []
        placed = [
            self._transcript.place(words, start / self._rate, self._earliest / self._rate) for start, words in untold
        ]
        return tuple(chain.from_iterable(placed))

    def _numbered(
        self,
        output: AudioGenerationOutput,
        samples: NDArray[np.float32],
        status: GenerationStatus,
        words: tuple[WordTimestamp, ...],
    ) -> AudioGenerationOutput:
        self._samples += samples.size
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
            words=words,
            prompt_tokens=prompts,
        )
        return rebuilt(output, audio_data=samples, final_status=status, metadata=metadata)
