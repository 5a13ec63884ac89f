"""When the words of a request's text are heard, for the listener who asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from max_codecs.layout import SpeechLayout
from max_codecs.spoken_words import HearsPhones, PhoneHead, SpokenWord, SpokenWords, phones_of
from max_interfaces import Attempt, AudioCodec, AudioGenerationRequest, ConfigError, WordTimestamp

from .beginning import Beginning
from .text_words import Written, written_words

Read = Callable[[str, bool], str]  # a text as the model reads it, normalized if that is wanted


class WordClock:
    """Makes the `WordTimes` of requests, where the model writes phones and the codec can tell them."""

    def __init__(self, layout: SpeechLayout, codec: AudioCodec, head: PhoneHead, read: Read) -> None:
        """ValueError where the model's phones are none of the codec's."""
        phones_of(layout, head)
        self._layout = layout
        self._codec = codec
        self._head = head
        self._read = read

    def open(self, attempt: Attempt[AudioGenerationRequest], beginning: Beginning) -> WordTimes:
        """The times of an attempt, behind what its caller has of them."""
        request = attempt.request
        words = SpokenWords(self._layout, self._head, beginning.earlier)
        step = self._codec.frame_samples / self._head.steps_per_frame
        scale = _Scale(step, beginning.before * self._codec.frame_samples, self._codec.sample_rate)
        text, spell = request.input or "", lambda text: self._read(text, request.normalize)
        times = WordTimes(words, text, written_words(text, spell), scale, beginning.before)
        times.push(attempt.tokens)
        times.take(0, beginning.decoded)
        return times


def clock_of(layout: SpeechLayout, codec: AudioCodec, read: Read) -> WordClock | None:
    """None for a model or a codec that cannot tell when its words are heard. ConfigError if they do not fit."""
    head = codec.phone_head if isinstance(codec, HearsPhones) else None
    if head is None or layout.phones is None:
        return None
    try:
        return WordClock(layout, codec, head, read)
    except ValueError as problem:
        raise ConfigError(f"codec.path: {problem}") from problem


@dataclass(frozen=True, slots=True)
class _Scale:
    """From steps to seconds: the first of them begins with sample `start`."""

    step: float  # samples
    start: int
    rate: int

    def seconds(self, step: int, first_sample: int) -> float:
        """When a step is heard in a sound that begins with sample `first_sample`."""
        return max(0.0, self.start + step * self.step - first_sample) / self.rate


@dataclass(frozen=True, slots=True)
class _Known:
    """What sounds from step `start` up to step `end`, by which frames that is known."""

    written: Written
    start: int
    end: int
    frames: int


class WordTimes:
    """Takes tokens, and gives the words of the text that are known by them, each once.

    Words leave with the first chunk that holds a frame behind those they are known by: so whoever knows which frames
    the caller has, knows which words, too.
    """

    def __init__(self, words: SpokenWords, text: str, written: Iterable[Written], scale: _Scale, before: int) -> None:
        """`written` are the words of the `text`, and `before` the frames that were there before the sound's first."""
        self._words = words
        self._text = text
        self._written = deque(written)  # those without a time
        self._scale = scale
        self._before = before
        self._sounding: list[SpokenWord] = []  # of the first of them
        self._known: deque[_Known] = deque()

    def push(self, tokens: Iterable[int]) -> None:
        """The next tokens."""
        self._note(self._words.push(tokens))

    def finish(self, *, cut_off: bool) -> None:
        """The sound has ended, perhaps before its text."""
        self._note(self._words.finish(cut_off=cut_off))
        if self._sounding:
            self._tell()

    def take(self, first_sample: int, frames: int | None = None) -> tuple[WordTimestamp, ...]:
        """The words that are told with the sound up to frame number `frames`; all that are left without it.

        Their times count from the sound's `first_sample`, which may be behind silence that nobody hears.
        """
        taken: list[WordTimestamp] = []
        while self._known and (frames is None or self._known[0].frames < frames):
            taken.append(self._timed(self._known.popleft(), first_sample))
        return tuple(taken)

    def _timed(self, known: _Known, first_sample: int) -> WordTimestamp:
        at = known.written
        start, end = (self._scale.seconds(step, first_sample) for step in (known.start, known.end))
        return WordTimestamp(self._text[at.start : at.end], start, end, at.start, at.end)

    def _note(self, words: Iterable[SpokenWord]) -> None:
        for word in words:
            if not self._written:
                return  # the model said more than it was given
            self._sounding.append(word)
            if len(self._sounding) == self._written[0].words:
                self._tell()

    def _tell(self) -> None:
        if not self._written:
            return
        first, last = self._sounding[0], self._sounding[-1]
        self._sounding = []
        self._known.append(_Known(self._written.popleft(), first.start, last.end, self._before + last.frames))
