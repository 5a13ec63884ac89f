"""`apply_chat_template`: conversations as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message: TypeAlias = dict[str, Any]
Prompt: TypeAlias = "str | Mapping[str, Any] | Sequence[str | Mapping[str, Any]]"


@overload
def apply_chat_template(
    processor: PreTrainedTokenizerBase,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = ...,
    return_messages: Literal[False] = ...,
    num_images: int = ...,
    num_audios: int = ...,
    **kwargs: Any,
) -> str: ...
@overload
def apply_chat_template(
    processor: PreTrainedTokenizerBase,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = ...,
    *,
    return_messages: Literal[True],
    num_images: int = ...,
    num_audios: int = ...,
    **kwargs: Any,
) -> list[Message]: ...
def apply_chat_template(
    processor: PreTrainedTokenizerBase,
    config: object,
    prompt: Prompt,
    add_generation_prompt: bool = True,
    return_messages: bool = False,
    num_images: int = 0,
    num_audios: int = 0,
    **kwargs: Any,
) -> str | list[Message]:
    """A prompt for `generate`: a text, a message, or a list of them, through the model's chat template.

    A text is the user's. With `return_messages` the messages themselves. Keyword arguments, such as
    `enable_thinking`, go to the template. `config` says for models that see and hear where media are placed; a model
    that reads text only places none: ValueError for any.
    """
    for name, count in (("num_images", num_images), ("num_audios", num_audios)):
        if count:
            raise ValueError(f"{name} = {count}: this model reads text only")
    given = [prompt] if isinstance(prompt, str | Mapping) else list(prompt)
    messages = [{"role": "user", "content": one} if isinstance(one, str) else dict(one) for one in given]
    if return_messages:
        return messages
    if processor.chat_template is None:
        raise ValueError("this model has no chat template; give the prompt as it is")
    filled = processor.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt, **kwargs
    )
    return str(filled)
