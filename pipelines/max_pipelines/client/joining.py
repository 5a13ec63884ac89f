"""The sounds of several requests as one: numbered through, with pauses of natural length between sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from max_codecs.sound.silence import faded, quiet_before, quiet_behind
from max_interfaces import AudioGenerationMetadata, AudioGenerationOutput, GenerationStatus, WordTimestamp
from max_interfaces.messages import ModelInfo

from ..speech.splitting import Part
from .outputs import rebuilt
from .transcript import Place, Transcript

FADE_S = 0.005  # into a pause and out of it: too short to hear, long enough not to click
KEPT_S = 0.05  # of silence before what is heard next: a soft consonant begins there
NO_SOUND: NDArray[np.float32] = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class _Change:
    """So many samples of silence from sample `first` of the whole on are left out, and others put in their place."""

    first: int
    removed: int
    added: int

    def moved(self, sample: float) -> float:
        """Where a sample is heard that would be this one of the whole; what is left out counts as what follows."""
        if sample < self.first:
            return sample
        return self.first + self.added + max(0.0, sample - self.first - self.removed)


_UNCHANGED = _Change(0, 0, 0)


class Joiner:
    """Turns the outputs of several requests into those of one.

    What is silent at the end of a part and at the beginning of the next makes the pause between them: filled up to the
    model's shortest, or cut to its longest. So while a part goes on, only silence that may be cut is held back; when it
    has ended, nothing of it that can be heard waits for the next. Nothing that can be heard is ever cut, nor is the end
    of the whole, and nothing is added to that. Words of a part wait until it is known how long the pause before it is.
    """

    def __init__(self, info: ModelInfo, transcript: Transcript) -> None:
        """The parts are those of the text in `transcript`."""
        self._info = info
        self._transcript = transcript
        self._rate = info.sample_rate
        self._least, self._most = round(info.shortest_pause_s * self._rate), round(info.longest_pause_s * self._rate)
        self._fade, self._kept = round(FADE_S * self._rate), round(KEPT_S * self._rate)
        self._sure = max(0, self._most - self._kept)  # silence that is in the pause, whatever comes
        self._chunks = self._steps = 0
        self._prompts = 0  # tokens of the prompts of the parts that have ended
        self._held = NO_SOUND  # the last samples: silence that may be cut; what may have to be faded out
        self._given = 0  # silent samples that were given out just before those
        self._pausing = False  # a part has ended, and nothing of the next is heard yet
        self._lead = NO_SOUND  # the next part's silence
        self._samples = 0  # that were given out
        self._fresh = True  # the next output begins a part
        self._start = 0  # where the part would begin in the whole, if nothing was changed in the pause before it
        self._place = Place("", ())  # of the part in the text
        self._change = _UNCHANGED
        self._untold: list[tuple[int, Place, tuple[WordTimestamp, ...]]] = []  # words, and where their part begins
        self.ended = False

    def join(self, output: AudioGenerationOutput, part: Part, last: bool) -> AudioGenerationOutput:
        """The output as part of the whole; `last` for the outputs of what is known to be the last part."""
        if self._fresh:
            self._start = self._samples + self._held.size + self._lead.size
            self._place = self._transcript.begin(part.text)
            self._change = _UNCHANGED
        self._fresh = output.is_done
        if output.metadata.words:
            self._untold.append((self._start, self._place, output.metadata.words))
        if self._pausing:
            samples = self._begun(output.audio_data, last and output.is_done)
        else:
            samples, self._held = np.concatenate([self._held, output.audio_data]), NO_SOUND
        can_tell = not self._pausing
        if not (last or self._pausing):
            samples = self._hold_back(samples, part, output.is_done)
            self._pausing = output.is_done and not part.joined
        words = self._told(self._samples + samples.size if output.is_done else math.inf) if can_tell else ()
        return self._numbered(output, samples, output.final_status if last else GenerationStatus.ACTIVE, words)

    def end(self) -> AudioGenerationOutput:
        """The last output, where the one before it did not know that it was."""
        metadata = AudioGenerationMetadata(sample_rate=self._rate, model_name=self._info.name)
        last = AudioGenerationOutput(GenerationStatus.END_OF_SEQUENCE, 0, metadata=metadata)
        samples = np.concatenate([self._held, self._lead])
        return self._numbered(last, samples, GenerationStatus.END_OF_SEQUENCE, self._told(math.inf))

    def _hold_back(self, samples: NDArray[np.float32], part: Part, is_done: bool) -> NDArray[np.float32]:
        """All but the silence at the end that may be cut, and, until the part is done, what may have to be faded out.

        Where the sentence goes on in the next part, nothing is.
        """
        quiet = quiet_behind(samples)
        silent = quiet + (self._given if quiet == samples.size else 0)
        sure = self._sure if is_done else min(self._sure, self._least)
        cut = 0 if part.joined else max(0, min(silent - sure, self._most, quiet))
        kept = cut if is_done or part.joined else min(samples.size, max(cut, self._fade))
        self._given = silent - min(kept, quiet)
        self._held = samples[samples.size - kept :]
        samples = samples[: samples.size - kept]
        return faded(samples, self._fade, -1) if is_done and not (part.joined or kept) else samples

    def _begun(self, samples: NDArray[np.float32], end: bool) -> NDArray[np.float32]:
        """What is missing to the pause and what follows it, once that can be heard; before that what is sure."""
        lead = np.concatenate([self._lead, samples])
        quiet = quiet_before(lead)
        if end or quiet < lead.size:
            held, self._held, self._lead = self._held, NO_SOUND, NO_SOUND
            self._pausing = False
            return self._bridged(held, lead, quiet) if quiet < lead.size else np.concatenate([held, lead])
        size = max(0, min(lead.size - self._kept, self._sure - self._given))  # 0 while anything is held before it
        self._given += size
        self._lead = lead[size:]
        return lead[:size]

    def _bridged(self, before: NDArray[np.float32], following: NDArray[np.float32], quiet: int) -> NDArray[np.float32]:
        """The silence `before`, as much of a pause as is missing, and the `following`, of which so many are silent."""
        silent = self._given + before.size + quiet
        wanted = min(max(silent, self._least), self._most)
        surplus = max(0, silent - wanted)
        start = min(surplus, max(0, quiet - self._kept))
        stop = max(0, before.size - (surplus - start))
        filling = np.zeros(max(0, wanted - silent), np.float32)
        self._change = _Change(self._samples + stop, before.size - stop + start, filling.size)
        return np.concatenate([faded(before[:stop], self._fade, -1), filling, faded(following[start:], self._fade, 1)])

    def _told(self, end: float) -> tuple[WordTimestamp, ...]:
        """The words that wait: it is known now when they are heard, before sample `end` since more may be cut."""
        untold, self._untold = self._untold, []
        placed = [place.words(words, partial(self._when, start, end)) for start, place, words in untold]
        return tuple(chain.from_iterable(placed))

    def _when(self, start: int, end: float, seconds: float) -> float:
        """When in the whole it is so many `seconds` later than where a part begins."""
        return min(self._change.moved(start + seconds * self._rate), end) / self._rate

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
