"""`apply_chat_template`: conversations as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, overload

from max_interfaces.text import MediaKind

from ..text.conversation import takes_parts
from .processors import Processor, takes, tokenizer_of

Message: TypeAlias = dict[str, Any]
Prompt: TypeAlias = "str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]"


@overload
def apply_chat_template(
    processor: Processor,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = ...,
    return_messages: Literal[False] = ...,
    num_images: int = ...,
    num_audios: int = ...,
    num_videos: int = ...,
    **kwargs: Any,
) -> str: ...
@overload
def apply_chat_template(
    processor: Processor,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = ...,
    *,
    return_messages: Literal[True],
    num_images: int = ...,
    num_audios: int = ...,
    num_videos: int = ...,
    **kwargs: Any,
) -> list[Message]: ...
def apply_chat_template(
    processor: Processor,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = True,
    return_messages: bool = False,
    num_images: int = 0,
    num_audios: int = 0,
    num_videos: int = 0,
    **kwargs: Any,
) -> str | list[Message]:
    """A prompt for `generate`: a text, a message, or a list of them, through the model's chat template.

    A text is the user's. With `return_messages` the messages themselves. Keyword arguments, such as
    `enable_thinking`, go to the template.

    Of `num_images`, `num_audios` and `num_videos` those that no message has in its own content stand before the text of
    the user's last message, in the template's own way. ValueError for any that the model does not take. `config` is not
    needed.
    """
    wanted = {MediaKind.IMAGE: num_images, MediaKind.AUDIO: num_audios, MediaKind.VIDEO: num_videos}
    for kind, count in wanted.items():
        if count and not takes(processor, kind):
            raise ValueError(f"num_{kind.value}s = {count}: this model takes no {kind.value}")
    given = [prompt] if isinstance(prompt, str | Mapping) else list(prompt)
    messages = [{"role": "user", "content": one} if isinstance(one, str) else dict(one) for one in given]
    template = _template(processor)
    if any(takes(processor, kind) for kind in wanted) and template is not None and takes_parts(template):
        messages = placed(messages, wanted)
    elif any(wanted.values()):
        raise ValueError("num_images, num_audios, num_videos: this model's chat template has no place for them")
    if return_messages:
        return messages
    if template is None:
        raise ValueError("this model has no chat template; give the prompt as it is")
    filled = tokenizer_of(processor).apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=add_generation_prompt, **kwargs
    )
    return str(filled)


def _template(processor: Processor) -> str | None:
    """The processor's own, or else its tokenizer's; of several the one called `default`."""
    for holder in (processor, tokenizer_of(processor)):
        template: object = holder.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        if isinstance(template, str):
            return template
    return None


def placed(messages: Sequence[Message], wanted: Mapping[MediaKind, int]) -> list[Message]:
    """The messages with their content in parts, and all `wanted` media among them. ValueError for no user's message."""
    made = [{**message, "content": _parts(message.get("content"))} for message in messages]
    missing: list[Message] = []
    for kind, count in wanted.items():
        there = sum(part["type"] == kind.value for message in made for part in message["content"])
        missing += [{"type": kind.value}] * (count - there)
    last = next((message for message in reversed(made) if message.get("role") == "user"), None)
    if missing and last is None:
        raise ValueError("num_images, num_audios, num_videos: no message of the user's that they could belong to")
    if last is not None:
        last["content"] = [*missing, *last["content"]]
    return made


def _parts(content: object) -> list[Message]:
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content or ""}]
