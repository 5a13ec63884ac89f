"""A checkpoint's processor: conversations to what `generate` takes, and ids to texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from max_engines.loading import model_source

from ..config import ModelConfig
from ..engines import build_tokenizer
from ..media import IN_PROCESS
from ..media.given import EncodedMedia, GivenMedia
from ..text.conversation import takes_parts
from .chat import Chat, Messages, is_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KINDS = ("images", "audios", "videos")


class Inputs(dict[str, Any]):
    """What `generate` takes: `input_ids` and `attention_mask`, int64 `[rows, tokens]`, filled up on the left.

    A prompt has one placeholder for each of the files in `images`, `audios` and `videos`, lists of one list of bytes a
    row; features are made of them where the model is. `input_ids` is an attribute, too, as in transformers.
    """

    @property
    def input_ids(self) -> Tensor:
        """int64 `[rows, tokens]`."""
        ids: Tensor = self["input_ids"]
        return ids

    def to(self, *_: object, **__: object) -> Self:
        """They go where the model is by themselves."""
        return self


class MultimodalProcessor:
    """The tokenizer and the chat template of a checkpoint."""

    def __init__(self, source: str, revision: str | None = None) -> None:
        self._source = source
        self._revision = revision

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """transformers' own."""
        return build_tokenizer(ModelConfig(name="model", path=self._source, revision=self._revision)).inner

    @cached_property
    def chat_template(self) -> str | None:
        """What lies beside the processor, or is the tokenizer's; None if there is none."""
        from max_engines.media.processing import open_processor

        try:
            template: object = open_processor(self._source, self._revision).chat_template
        except ValueError:  # it reads text alone
            template = None
        template = template or self.tokenizer.chat_template
        if isinstance(template, dict):
            template = template.get("default")
        return template if isinstance(template, str) else None

    def apply_chat_template(
        self,
        conversation: Messages | Sequence[Messages],
        chat_template: str | None = None,
        *,
        tokenize: bool = False,
        return_dict: bool = True,
        return_tensors: str | None = "pt",
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str | list[str] | Inputs | Tensor:
        """A conversation, or several, as text; with `tokenize` as what `generate` takes, files and URLs read.

        Other keyword arguments go to the template. ValueError for a conversation that is none, a file that cannot be
        read, and a model without a template.
        """
        several = not is_chat(conversation)
        chats = [Chat.of(one) for one in (conversation if several else [conversation])]  # type: ignore[arg-type]
        template = chat_template or self.chat_template
        if template is None:
            raise ValueError("this model has no chat template; give a text")
        texts = [
            str(
                self.tokenizer.apply_chat_template(
                    chat.parts if takes_parts(template) else _plain(chat),
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    continue_final_message=continue_final_message,
                    **options,
                )
            )
            for chat in chats
        ]
        if not tokenize:
            return texts if several else texts[0]
        inputs = self._inputs(texts, [chat.media for chat in chats], return_tensors, begins=False)
        return inputs if return_dict else inputs.input_ids

    def __call__(
        self,
        text: str | Sequence[str],
        images: Sequence[Any] = (),
        audio: Sequence[Any] = (),
        videos: Sequence[Any] = (),
        return_tensors: str | None = "pt",
    ) -> Inputs:
        """A text with the model's own placeholders, and the media for them; or several texts without any."""
        texts = [text] if isinstance(text, str) else list(text)
        given = GivenMedia(tuple(images), tuple(audio), tuple(videos))
        if given.counts and len(texts) != 1:
            raise ValueError(f"images, audio, videos: {len(texts)} texts; give media beside one text at a time")
        return self._inputs(texts, [given] * len(texts), return_tensors, begins=True)

    def batch_decode(
        self, sequences: Tensor | Sequence[Sequence[int]], *, skip_special_tokens: bool = False
    ) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(row, skip_special_tokens=skip_special_tokens) for row in sequences]

    def decode(self, ids: Tensor | Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of ids."""
        return str(self.tokenizer.decode([int(token) for token in ids], skip_special_tokens=skip_special_tokens))

    def _inputs(
        self, texts: Sequence[str], media: Sequence[GivenMedia], return_tensors: str | None, *, begins: bool
    ) -> Inputs:
        if return_tensors != "pt":
            raise ValueError(f'return_tensors = {return_tensors!r:.80}: must be "pt"')
        rows = [self.tokenizer.encode(text, add_special_tokens=begins) for text in texts]
        read: list[EncodedMedia] = [one.encoded(IN_PROCESS) for one in media]
        longest = max(map(len, rows), default=0)
        filler = self.tokenizer.pad_token_id or 0
        inputs = Inputs(
            input_ids=torch.tensor([[filler] * (longest - len(row)) + row for row in rows]),
            attention_mask=torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
        )
        for kind in KINDS:
            if any(getattr(one, kind) for one in read):
                inputs[kind] = [list(getattr(one, kind)) for one in read]
        return inputs


class AutoProcessor:
    """transformers' class of this name: see `from_pretrained`."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        use_fast: bool = True,
    ) -> MultimodalProcessor:
        """The processor of a folder or of the hub. Code from a checkpoint is never run. ValueError if there is none."""
        processor = MultimodalProcessor(model_source(pretrained_model_name_or_path), revision)
        _ = processor.tokenizer
        return processor


def _plain(chat: Chat) -> list[dict[str, str]]:
    """For a template of text alone. ValueError for a conversation with anything else."""
    if chat.media.counts:
        raise ValueError("messages: this model's chat template has no place for images, sounds or films")
    return [{"role": message.role.value, "content": message.flatten_content()} for message in chat.messages]
