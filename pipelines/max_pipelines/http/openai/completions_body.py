"""What is asked of a completion."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from max_interfaces import RequestID, TextGenerationRequest

from .sampling import MOST_CHOICES, MOST_LOGPROBS, Limit, SamplingFields, TokenId

DEFAULT_TOKENS = 16  # OpenAI's
Text = Annotated[str, Meta(max_length=2**22)]
Ids: TypeAlias = Annotated[list[TokenId], Meta(max_length=2**20)]
Prompt: TypeAlias = str | tuple[int, ...]


class CompletionBody(SamplingFields, frozen=True, kw_only=True):
    """OpenAI's fields. A `prompt` is a text or token ids, or a list of either: each is answered `n` times."""

    prompt: Text | Annotated[list[Text | TokenId | Ids], Meta(min_length=1, max_length=2**20)]
    max_tokens: Limit | None = DEFAULT_TOKENS
    suffix: Text | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=MOST_LOGPROBS)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None

    @property
    def prompts(self) -> list[Prompt]:
        """Each of them. ValueError for a list of several kinds, and for more than one request may ask for."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        prompts: list[Prompt] = []
        for entry in self.prompt:
            if isinstance(entry, int):
                return [self._ids(self.prompt)]
            prompts.append(entry if isinstance(entry, str) else tuple(entry))
        if len({type(prompt) for prompt in prompts}) > 1:
            raise ValueError("prompt: texts and token ids do not go together in one list")
        made = len(prompts) * max(self.choices, self.best_of or 1)
        if made > MOST_CHOICES:
            raise ValueError(
                f"prompt: {len(prompts)} prompts make {made} texts, at most {MOST_CHOICES} are made at once"
            )
        return prompts

    def _ids(self, entries: list[str | int | list[int]]) -> tuple[int, ...]:
        ids = tuple(entry for entry in entries if isinstance(entry, int))
        if len(ids) < len(entries):
            raise ValueError("prompt: a list of token ids has something else in it, too")
        return ids

    @property
    def tells_prompt(self) -> bool:
        """Whether the log probabilities of the prompt are wanted, too."""
        return bool(self.echo) and self.logprobs is not None

    @property
    def scores_alone(self) -> bool:
        """Whether nothing else is wanted; the engine tells them with a token."""
        return self.tells_prompt and self.max_tokens == 0

    def requests(self, model: str, path: str) -> list[TextGenerationRequest]:
        """As the engine takes them, one for each prompt. ValueError, naming the field, for what it cannot be asked."""
        if self.suffix:
            raise ValueError("suffix: no model here writes what stands between two texts; leave it out")
        ranked = self.best_of is not None and self.best_of != self.choices
        if ranked and self.stream:
            raise ValueError(
                f"best_of = {self.best_of}: the best is not known before all are complete; leave out stream"
            )
        params = self.sampling(
            max_new_tokens=1 if self.scores_alone else self.max_tokens,
            best_of=self.best_of if ranked else None,
            logprobs=self.logprobs,
            prompt_logprobs=self.logprobs if self.echo else None,
            echo=bool(self.echo),
        )
        texts = self.logprobs is not None
        return [
            TextGenerationRequest(
                RequestID(), model, prompt, request_path=path, sampling_params=params, token_texts=texts
            )
            for prompt in self.prompts
        ]
