"""A request for text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from ..bounds import Bounded, LongText, Name, Position, TokenIds
from ..equality import same_fields
from ..identity import RequestID
from ..sampling import DEFAULT_SAMPLING, SamplingParams
from ..values import Json
from .conversation import MediaKind, Messages, TextGenerationResponseFormat, Tools

MAX_MEDIA_BYTES = 2**26
Media = Annotated[tuple[Annotated[bytes, Meta(max_length=MAX_MEDIA_BYTES)], ...], Meta(max_length=64)]
Guidance = Annotated[float, Meta(ge=1, le=100)]


@dataclass(frozen=True, slots=True, eq=False)
class TextGenerationRequest(Bounded):
    """An immutable request for text; the first fields in MAX's published order.

    Give `prompt`, a string or token ids, or `messages`. `images`, `videos` and `audios` are encoded files; messages
    say where each belongs, a prompt by the model's own placeholders. With `token_texts` the outputs also spell each id
    that they name; with `return_prompt` the first names the ids of the prompt; with `running_statistics` each says
    what the request has cost so far. `adapter_id` names a LoRA adapter or a soft prompt that is loaded,
    `prompt_adapter_id` a soft prompt beside a LoRA adapter. With a `voice` the text is spoken while it is written, by a
    model that speaks. With `guidance` a picture is drawn of the prompt, by a model that draws: what the prompt adds to
    what would be drawn without one counts so many times (https://arxiv.org/abs/2207.12598). Raises ValueError naming
    the field, its value and its bound.
    Source: MAX 25.7 to 26.3, `max.interfaces.TextGenerationRequest`.
    """

    request_id: RequestID
    model_name: Name
    prompt: TokenIds | LongText | None = None
    messages: Messages = ()
    images: Media = ()
    videos: Media = ()
    tools: Tools = ()
    response_format: TextGenerationResponseFormat | None = None
    timestamp_ns: Position = 0
    request_path: Annotated[str, Meta(max_length=1024)] = "/"
    logprobs: Annotated[int, Meta(ge=-1, le=2**20)] = 0
    echo: bool = False
    stop: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=1024)], ...], Meta(max_length=64)] = ()
    chat_template_options: Json | None = None
    sampling_params: SamplingParams = DEFAULT_SAMPLING
    target_endpoint: Annotated[str, Meta(max_length=1024)] | None = None
    chat_template: LongText | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    audios: Media = ()
    processor_options: Json | None = None
    adapter_id: Name | None = None
    token_texts: bool = False
    return_prompt: bool = False
    running_statistics: bool = False
    prompt_adapter_id: Name | None = None
    voice: Name | None = None
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):  # one stop string is the commonest case, and a str is also a sequence
            object.__setattr__(self, "stop", (self.stop,))
        Bounded.__post_init__(self)

    def check_rules(self) -> None:
        """Either a prompt or messages, and a place for each of the media."""
        name = type(self).__name__
        if (self.prompt is None) == (not self.messages):
            raise ValueError(f"{name}.prompt: give either prompt or messages, and not both")
        if self.prompt is not None and not self.prompt:
            raise ValueError(f"{name}.prompt = {self.prompt!r}: must not be empty")
        if self.continue_final_message and self.add_generation_prompt:
            raise ValueError(
                f"{name}.continue_final_message = True: excludes add_generation_prompt = True; "
                "one begins a new message, the other goes on with the last"
            )
        self._check_media()

    def _check_media(self) -> None:
        """MAX's rule: each item has a place in the messages. A prompt has it in the model's own way."""
        if self.prompt is not None:
            return
        held = {MediaKind.IMAGE: self.images, MediaKind.VIDEO: self.videos, MediaKind.AUDIO: self.audios}
        for kind, items in held.items():
            placed = sum(message.media(kind) for message in self.messages)
            if placed != len(items):
                name = f"{type(self).__name__}.{kind.value}s"
                raise ValueError(f"{name} = {len(items)} items: the messages place {placed}")

    def __eq__(self, other: object) -> bool:
        return same_fields(self, other)

    def __hash__(self) -> int:
        return hash(self.request_id)
