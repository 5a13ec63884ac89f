"""Images, sounds and films of requests, read and processed beside the work of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Self

from max_engines.media.processor import Encode, MediaProcessor
from max_interfaces import Feature, TextGenerationRequest
from max_interfaces.text import MediaKind
from max_interfaces.values import JsonValue

from ..config import Config
from ..media import MediaLimits, read_image, read_sound
from ..media.given import what_is_taken
from ..media.limits import DEFAULT_LIMITS
from .seeing import NAMES, Seeing

FIELDS = {MediaKind.IMAGE: "images", MediaKind.AUDIO: "audios", MediaKind.VIDEO: "videos"}
TEXT_ONLY = what_is_taken(())


@dataclass(frozen=True, slots=True, eq=False)
class ReadPrompt:
    """Ids with placeholders, and what stands in their place."""

    ids: tuple[int, ...]
    media: tuple[Feature, ...] = ()


class Perceiving:
    """One prompt on its way; `stop` ends its reading."""

    def __init__(self, future: Future[ReadPrompt], stop: Callable[[], None]) -> None:
        self._future = future
        self._stop = stop

    @property
    def done(self) -> bool:
        """True when `poll` has an answer."""
        return self._future.done()

    def poll(self) -> ReadPrompt | None:
        """The prompt, or None as long as it is under way. ValueError: why there is none. Never waits."""
        return self._future.result() if self._future.done() else None

    def wait(self, seconds: float) -> None:
        """Return when it is done, or after so long."""
        wait([self._future], timeout=seconds)

    def cancel(self) -> None:
        """Nobody waits any more: what is being read ends at its next frame or block of sound. Safe at any time."""
        self._future.cancel()
        self._stop()


class Perceiver:
    """What a model can be shown and played: one prompt after the other, in a thread of its own."""

    def __init__(
        self,
        processor: MediaProcessor | None,
        limits: MediaLimits = DEFAULT_LIMITS,
        *,
        options: bool = False,
        why: str = TEXT_ONLY,
    ) -> None:
        """Without a processor text alone is read, and `why` is what anything else is refused with.

        With `options` requests may have any `processor_options`: who gives them can make it take any memory. Without
        they may say how films are seen.
        """
        self._processor = processor
        self._limits = limits
        self._options = options
        self._why = why
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="media")

    @classmethod
    def of(cls, config: Config, *, takes_media: bool) -> Self:
        """That of a served model; one that sees or hears, and whose processor cannot be read, reads text."""
        model, media = config.model, config.media
        processor, why = None, TEXT_ONLY
        if takes_media:
            try:
                processor = MediaProcessor.open(model.location, model.revision)
            except ValueError as problem:
                why = str(problem)
        limits = MediaLimits(
            pixels=media.max_pixels,
            seconds=media.max_seconds,
            request_seconds=max(media.max_seconds, DEFAULT_LIMITS.request_seconds),
        )
        return cls(processor, limits, options=media.processor_options, why=why)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of media that prompts may have."""
        return tuple(kind.value for kind in MediaKind if self._processor and kind in self._processor.kinds)

    @property
    def chat_template(self) -> str | None:
        """The template that lies beside the processor, if there is one."""
        return self._processor.chat_template if self._processor else None

    def check(self, request: TextGenerationRequest) -> None:
        """ValueError naming the field that this model cannot be given."""
        kinds = self.kinds
        for kind, field in FIELDS.items():
            if getattr(request, field) and kind.value not in kinds:
                raise ValueError(f"{field}: {what_is_taken(kinds) if kinds else self._why}")
        if request.processor_options is not None and not kinds:
            raise ValueError(f"processor_options: {self._why}")
        if not self._options and (others := _options(request).keys() - NAMES):
            raise ValueError(
                f"processor_options.{min(others)}: this server's media.processor_options does not allow it"
            )
        truncate = request.sampling_params.truncate
        if truncate is not None and has_media(request):
            raise ValueError(f"truncate = {truncate}: cannot cut a prompt with images, sounds or films; leave it out")

    def submit(
        self, request: TextGenerationRequest, prompt: str | Sequence[int], encode: Encode, most: int
    ) -> Perceiving:
        """Begin with a request's `prompt`, which has the model's own placeholders. Does not wait.

        Films that take more than `most` tokens are refused as soon as that is known.
        """
        limits, shared = self._limits.for_request()
        return Perceiving(self._thread.submit(self._read, request, prompt, encode, most, limits), shared.stop)

    def close(self) -> None:
        """End the thread. Safe to call twice."""
        self._thread.shutdown(cancel_futures=True)

    def _read(
        self,
        request: TextGenerationRequest,
        prompt: str | Sequence[int],
        encode: Encode,
        most: int,
        limits: MediaLimits,
    ) -> ReadPrompt:
        if self._processor is None:
            raise ValueError(self._why)
        rate = self._processor.sampling_rate
        images = [read_image(item, limits, name=f"images[{at}]") for at, item in enumerate(request.images)]
        sounds = [
            read_sound(item, rate, limits, name=f"audios[{at}]").samples for at, item in enumerate(request.audios)
        ]
        seeing, options = Seeing.of(_options(request))
        films = [seeing.read(item, self._processor, limits, f"videos[{at}]") for at, item in enumerate(request.videos)]
        limits.go_on()
        return ReadPrompt(*self._processor.process(prompt, encode, images, sounds, options, films, most))


def _options(request: TextGenerationRequest) -> dict[str, JsonValue]:
    """What a request tells the model's processor. ValueError if that is no object."""
    given = request.processor_options
    options = given.value if given is not None else {}
    if not isinstance(options, dict):
        raise ValueError("processor_options: must be a JSON object")
    return options


def has_media(request: TextGenerationRequest) -> bool:
    """Whether there is anything beside text."""
    return bool(request.images or request.audios or request.videos)
