"""From a request for text to the token ids that the model reads."""

from __future__ import annotations

from functools import partial

from max_engines.templating import Rendering, TemplateRenderer
from max_engines.tokenizer import TextTokenizer
from max_interfaces import Adapters, TextGenerationRequest

from ..adapters import check_adapter
from .conversation import checked_length, takes_parts, template_values
from .perceiving import Perceiver, Perceiving, has_media

MOST_CHARACTERS = 64  # a token: more than any tokenizer makes of a whole text


class TextPrompter:
    """Builds prompts for one model, whose sequences can have `max_length` tokens.

    Templates that come with requests have a process of their own, so that nobody with the model's own waits for them.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        max_length: int,
        adapters: Adapters | None = None,
        *,
        perceiver: Perceiver,
    ) -> None:
        self._tokenizer = tokenizer
        self._perceiver = perceiver
        self._adapters = adapters
        self._max_length = max_length
        self._own = TemplateRenderer()
        self._given = TemplateRenderer()

    def adapters(self, request: TextGenerationRequest) -> tuple[int, int]:
        """What the adapters' names stand for now. ValueError for one that is not loaded."""
        return (
            check_adapter("adapter_id", request.adapter_id, self._adapters),
            check_adapter("prompt_adapter_id", request.prompt_adapter_id, self._adapters),
        )

    def rendering(self, request: TextGenerationRequest) -> Rendering | None:
        """Begin to fill the template in, if the request is a conversation. Does not wait.

        ValueError for what this model cannot do: nothing is silently ignored.
        """
        self._perceiver.check(request)
        if not request.messages:
            if isinstance(request.prompt, str):
                self._refuse_endless("prompt", len(request.prompt), request)
            return None
        self._refuse_endless("messages", checked_length(request.messages), request)
        template = self._template(request)
        parts = bool(self._perceiver.kinds) and takes_parts(template)
        if has_media(request) and not parts:
            raise ValueError("messages: this model's chat template has no place for images, sounds or films")
        renderer = self._own if request.chat_template is None else self._given
        return renderer.submit(template, template_values(request, self._tokenizer, parts=parts))

    def perceiving(self, request: TextGenerationRequest, rendered: str | None) -> Perceiving | None:
        """Begin to read a request's media, if it has any; `rendered` as in `prompt`. Does not wait."""
        if not has_media(request):
            return None
        if rendered is not None:
            self._refuse_endless("messages", len(rendered), request)
            return self._perceiver.submit(request, rendered, self._tokenizer.encode_shielded, self._max_length)
        prompt = request.prompt or ()
        alone = isinstance(prompt, str)  # else each piece stands among ids
        encode = partial(self._tokenizer.encode, add_special_tokens=alone, parse_special_tokens=True)
        return self._perceiver.submit(request, prompt, encode, self._max_length)

    def prompt(self, request: TextGenerationRequest, rendered: str | None) -> tuple[int, ...]:
        """The ids for a request; `rendered` is the text of its conversation. ValueError if they do not fit.

        A prompt that is a string is read as vLLM and TGI read it: special tokens written out in it are themselves, and
        the tokenizer's own stand around it.
        """
        if rendered is not None:
            self._refuse_endless("messages", len(rendered), request)
            ids = tuple(self._tokenizer.encode_shielded(rendered))
        elif isinstance(request.prompt, str):
            text = _end_of(request.prompt, request.sampling_params.truncate)
            ids = tuple(self._tokenizer.encode(text, parse_special_tokens=True))
        else:
            ids = request.prompt or ()
        truncate = request.sampling_params.truncate
        return self.fitted(ids if truncate is None else ids[-truncate:])

    def start(self) -> None:
        """Start the process of the model's own template, so that the first conversation does not wait for it."""
        self._own.start()

    def close(self) -> None:
        """End what fills templates in, and reads media."""
        self._perceiver.close()
        self._own.close()
        self._given.close()

    def _refuse_endless(self, field: str, count: int, request: TextGenerationRequest) -> None:
        """ValueError for a text that could not fit: reading it would hold up all others for seconds."""
        most = self._max_length * MOST_CHARACTERS
        if count > most and not self._cuts(request):
            raise ValueError(
                f"{field}: has {count} characters, which cannot fit in {self._max_length} tokens (at most {most}); "
                "shorten it, or let sampling_params.truncate keep its last tokens"
            )

    def _template(self, request: TextGenerationRequest) -> str:
        """The request's own, or the model's. ValueError if there is none."""
        given = self._perceiver.chat_template if request.chat_template is None else request.chat_template
        return self._tokenizer.chat_template(given, tools=bool(request.tools))

    def _cuts(self, request: TextGenerationRequest) -> bool:
        """Whether `truncate` makes a prompt of any length fit."""
        truncate = request.sampling_params.truncate
        return truncate is not None and truncate < self._max_length

    def fitted(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The ids of a prompt, placeholders of media among them. ValueError if they do not fit."""
        if not ids:
            raise ValueError("prompt: has no tokens; give some text")
        if len(ids) >= self._max_length:
            raise ValueError(
                f"prompt: has {len(ids)} tokens, at most {self._max_length - 1} fit; "
                "shorten it, or let sampling_params.truncate keep its last ones"
            )
        return ids


def _end_of(prompt: str, truncate: int | None) -> str:
    """As much of a text as its last `truncate` tokens can need: reading all of a long one would hold up all others."""
    return prompt if truncate is None else prompt[-MOST_CHARACTERS * (truncate + 1) :]
