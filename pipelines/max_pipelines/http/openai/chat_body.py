"""What is asked of a chat."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from max_interfaces import RequestID, TextGenerationRequest

from ...media.given import EncodedMedia, GivenMedia
from ...openai_chat import Message, Tool, media_in
from ...raw_json import described, json_of, null
from ..problems import HttpProblem
from .audio import PCM, AudioFields, Modalities
from .response_format import TEXT, ResponseFormat
from .sampling import MOST_LOGPROBS, Limit, SamplingFields
from .tools import NamedTool, Offer


class ChatBody(SamplingFields, frozen=True, kw_only=True):
    """OpenAI's fields, then those of vLLM. `user`, `metadata`, `store`, `service_tier` and others change nothing."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_tokens: Limit | None = None
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Meta(max_length=256)] | None = None
    tool_choice: Annotated[str, Meta(min_length=1, max_length=256)] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    chat_template_kwargs: Annotated[msgspec.Raw, described("object")] = msgspec.field(default_factory=null)
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    echo: bool | None = None
    mm_processor_kwargs: Annotated[msgspec.Raw, described("object")] = msgspec.field(default_factory=null)
    modalities: Modalities | None = None
    audio: AudioFields | None = None

    def offer(self) -> Offer:
        """The tools. HttpProblem 422 for a choice of none that is there, and for a form besides them."""
        offer = Offer(self.tools or [], self.tool_choice or "auto", parallel=self.parallel_tool_calls is not False)
        if offer.functions and self.response_format is not None and self.response_format.type != TEXT:
            text = "tools and a response_format other than text exclude each other; leave one of them out"
            raise HttpProblem(422, "tool_error", text)
        return offer

    @property
    def echoed(self) -> str:
        """What stands before an answer that goes on with the assistant's last message, if that is wanted."""
        last = self.messages[-1]
        return last.read().flatten_content() if self.echo and last.role == "assistant" else ""

    @property
    def media(self) -> GivenMedia:
        """What its messages show and play."""
        return media_in(self.messages)

    @property
    def spoken(self) -> AudioFields | None:
        """How its answer is to be spoken; None if it is not. ValueError for what cannot be had aloud."""
        if "audio" not in (self.modalities or ()):
            return None
        if self.audio is None:
            raise ValueError("audio: is needed where modalities has audio, with a voice and a format")
        if self.stream and self.audio.format != PCM:
            raise ValueError(f"audio.format = {self.audio.format!r}: must be {PCM!r} in a stream")
        if self.tools or (self.response_format is not None and self.response_format.type != TEXT):
            raise ValueError("modalities: an answer that is spoken is plain text; leave tools and response_format out")
        return self.audio

    def request(
        self, model: str, path: str, offer: Offer, media: EncodedMedia, voice: str | None = None
    ) -> TextGenerationRequest:
        """As the engine takes it. ValueError, naming the field, for what it cannot be asked for."""
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError(f"top_logprobs = {self.top_logprobs}: needs logprobs = true")
        form = self.response_format.read() if self.response_format is not None else None
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        goes_on = bool(self.continue_final_message)
        params = self.sampling(
            max_new_tokens=limit,
            logprobs=self.top_logprobs or 0 if self.logprobs else None,
            grammar=offer.grammar or (form.grammar if form is not None else None),
            **self._unskipped(offer),
        )
        return TextGenerationRequest(
            RequestID(),
            model,
            messages=tuple(message.read() for message in self.messages),
            tools=offer.tools,
            response_format=form.response_format if form is not None else None,
            request_path=path,
            chat_template_options=json_of(self.chat_template_kwargs, "chat_template_kwargs"),
            sampling_params=params,
            add_generation_prompt=not goes_on if self.add_generation_prompt is None else self.add_generation_prompt,
            continue_final_message=goes_on,
            token_texts=bool(self.logprobs),
            images=media.images,
            audios=media.audios,
            videos=media.videos,
            processor_options=json_of(self.mm_processor_kwargs, "mm_processor_kwargs"),
            voice=voice,
        )

    def _unskipped(self, offer: Offer) -> dict[str, bool]:
        """Some models mark their calls with special tokens, which have to stay in the text then."""
        return {"skip_special_tokens": False} if offer.functions and self.skip_special_tokens is None else {}
