"""`pipeline("any-to-any")`: chats and texts with media in, text or sound out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from PIL import Image

from ..media import IN_PROCESS
from ..media.given import EncodedMedia, GivenMedia, films_listed, listed
from .answering import Answer, Asked, answers, pieces
from .chat import Chat, is_chat
from .model import AutoModelForMultimodalLM, MultimodalModel
from .sampling import Sampling

TASK = "any-to-any"
Record: TypeAlias = dict[str, Any]
PROMPT = ("text", "images", "audio", "videos")


@dataclass(frozen=True, slots=True, eq=False)
class Options:
    """What a call asks beside its prompts; the rest of its keyword arguments are those of `Sampling`.

    `fps` frames a second are seen of a film, or `num_frames` in all; without either all of them. With
    `load_audio_from_video` it is heard, too.
    """

    generation_mode: str | None = None
    return_full_text: bool | None = None
    return_tensors: bool | None = None
    continue_final_message: bool | None = None
    skip_special_tokens: bool = True
    stop_sequence: str | Sequence[str] = ()
    speaker: str | None = None
    fps: float | None = None
    num_frames: int | None = None
    load_audio_from_video: bool = False
    processor_kwargs: Mapping[str, Any] = field(default_factory=dict)
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """From keyword arguments. ValueError for two that exclude each other."""
        own = {name: value for name, value in given.items() if name in cls.__dataclass_fields__ and name != "sampling"}
        return cls(**own, sampling={name: value for name, value in given.items() if name not in own})

    def __post_init__(self) -> None:
        if self.return_full_text is not None and self.return_tensors is not None:
            raise ValueError("return_full_text and return_tensors exclude each other")
        if self.generation_mode == "image" and self.stop:
            raise ValueError(f"stop_sequence = {self.stop!r:.80}: a picture has no text; leave it out")
        if self.generation_mode not in (None, "text"):
            for name in ("return_full_text", "return_tensors"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: is for generation_mode = 'text', not {self.generation_mode!r}")
        for name in self.generate_kwargs.keys() & self.sampling.keys():
            raise ValueError(f"{name}: is in generate_kwargs, too; give it once")

    @property
    def stop(self) -> tuple[str, ...]:
        """The texts that end an answer, and are its end."""
        return (self.stop_sequence,) if isinstance(self.stop_sequence, str) else tuple(self.stop_sequence)

    def processor(self, media: GivenMedia) -> Mapping[str, Any]:
        """What the model's processor is told; of films only if there are any."""
        films = {
            "fps": self.fps,
            "num_frames": self.num_frames,
            "load_audio_from_video": self.load_audio_from_video or None,
        }
        told = {name: value for name, value in films.items() if value is not None and media.videos}
        return {**self.processor_kwargs, **told}


class AnyToAnyPipeline:
    """One model, and how it is asked. `with pipe:` ends it at the end of the block, and so does nobody's holding it."""

    task = TASK

    def __init__(self, model: MultimodalModel) -> None:
        self.model = model

    def __call__(
        self, text: Any = None, images: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> list[Any]:
        """A record for a chat (a list of messages), a text, or a dict of text, images, videos and audio; for a list of
        texts a record each, and for a list of chats or dicts a list with one each.

        A record has the `input_text` and, by the `generation_mode`, `generated_text`, or `generated_audio`, float32
        [samples], with its `sampling_rate`, or `generated_image`, an image of PIL. With `return_full_text`, the
        default, the text begins with what was asked.
        ValueError for what the model cannot do, TypeError for an unknown argument; RequestFailed if it breaks.
        """
        options = Options.of(kwargs)
        if text is None and images is None:
            raise ValueError("text: give a text, a chat, or images")
        if _of_several(text):
            prompts = [self._prompt(one, {}, options) for one in text]
            records = self._records(prompts, options)
            return records if isinstance(text[0], str) else [[record] for record in records]
        beside = {"images": images, "videos": videos, "audio": audio}
        return self._records([self._prompt(text, beside, options)], options)

    def stream(
        self, text: Any, images: Any = None, videos: Any = None, audio: Any = None, **kwargs: Any
    ) -> Iterator[Record]:
        """The answer to one prompt as it is made: `generated_text`, new text, and in the mode "audio" also
        `generated_audio`, new samples, with their `sampling_rate`, side by side. In the mode "image" it is
        `generated_token_ids`, new codes, and at the end `generated_image`. Arguments are those of a call.
        """
        options = Options.of(kwargs)
        prompt = self._prompt(text, {"images": images, "videos": videos, "audio": audio}, options)
        for output in pieces(self.model.running, self._asked(prompt, options)):
            if output.text:
                yield {"generated_text": output.text}
            if output.audio_data is not None:
                yield {"generated_audio": output.audio_data, "sampling_rate": output.sample_rate}
            if options.generation_mode == "image" and output.tokens:
                yield {"generated_token_ids": torch.tensor(output.tokens)}
            if output.image_data is not None:
                yield {"generated_image": Image.fromarray(output.image_data)}

    def close(self) -> None:
        """End all that runs. Safe to call twice."""
        self.model.close()

    def __enter__(self) -> AnyToAnyPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prompt(self, given: Any, beside: Mapping[str, Any], options: Options) -> Given:
        if is_chat(given):
            if any(value is not None for value in beside.values()):
                raise ValueError("images, videos, audio: are in the messages of a chat; put them there")
            chat = Chat.of(given)
            goes_on = options.continue_final_message
            return Given(chat, chat.media, chat.ends_in_answer if goes_on is None else goes_on)
        if isinstance(given, Mapping):
            for name in given.keys() - set(PROMPT):
                raise ValueError(f"{name}: a prompt has {', '.join(PROMPT)}")
            given, beside = given.get("text"), {name: given.get(name) for name in PROMPT[1:]}
        if given is not None and not isinstance(given, str):
            raise ValueError(f"text = {given!r:.80}: must be a text, a chat, or a list of them")
        images, audio, videos = (beside.get(name) for name in PROMPT[1:])
        return Given(given or "", GivenMedia(listed(images), listed(audio), films_listed(videos)))

    def _asked(self, prompt: Given, options: Options) -> Asked:
        mode = self.model.mode(options.generation_mode)
        sampling = Sampling.of({**options.generate_kwargs, **options.sampling}, self.model.generation_config)
        if mode == "image":
            params, guidance = sampling.of_picture()
        else:
            guidance = None
            params = sampling.params(skip_special_tokens=options.skip_special_tokens, stop=options.stop)
        media: EncodedMedia = prompt.media.encoded(IN_PROCESS)
        return Asked(
            prompt.text.messages if isinstance(prompt.text, Chat) else prompt.text,
            params,
            self.model.voice(options.speaker) if mode == "audio" else None,
            media.images,
            media.audios,
            media.videos,
            prompt.goes_on,
            {} if mode == "image" else options.processor(prompt.media),
            guidance,
        )

    def _records(self, prompts: Sequence[Given], options: Options) -> list[Record]:
        asked = [self._asked(prompt, options) for prompt in prompts]
        found = answers(self.model.running, asked)
        return [_record(prompt, answer, options) for prompt, answer in zip(prompts, found, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """One prompt, and the media that belong to it."""

    text: Chat | str
    media: GivenMedia
    goes_on: bool = False

    @property
    def input_text(self) -> Any:
        """As it was given."""
        return self.text.given if isinstance(self.text, Chat) else self.text

    def full(self, text: str) -> Any:
        """What was asked, and what was said to it."""
        return self.text.answered(text, goes_on=self.goes_on) if isinstance(self.text, Chat) else self.text + text


def pipeline(
    task: str = TASK,
    model: str | Path | MultimodalModel | None = None,
    *,
    device: str | int | torch.device | None = None,
    **options: Any,
) -> AnyToAnyPipeline:
    """A pipeline over a model of a folder or the hub, or one that there is already.

    Other keyword arguments are those of `AutoModelForMultimodalLM.from_pretrained`. ValueError for another task.
    """
    if task != TASK:
        raise ValueError(f"task = {task!r:.80}: must be {TASK!r}")
    if model is None:
        raise ValueError("model: name a folder or a model on the hub")
    if not isinstance(model, MultimodalModel):
        model = AutoModelForMultimodalLM.from_pretrained(model, **{"device_map": device, **options})
    elif device is not None:
        model.to(device)
    return AnyToAnyPipeline(model)


def _record(prompt: Given, answer: Answer, options: Options) -> Record:
    asked = {"input_text": prompt.input_text}
    if options.generation_mode == "audio":
        return {**asked, "generated_audio": answer.samples, "sampling_rate": answer.sample_rate}
    if answer.pixels is not None:
        return {**asked, "generated_image": Image.fromarray(answer.pixels)}
    if options.return_tensors:
        return {**asked, "generated_token_ids": torch.tensor([*answer.prompt, *answer.tokens])}
    full = options.return_full_text is not False and options.return_tensors is None
    return {**asked, "generated_text": prompt.full(answer.text) if full else answer.text}


def _of_several(given: Any) -> bool:
    return isinstance(given, list | tuple) and bool(given) and not is_chat(given)
