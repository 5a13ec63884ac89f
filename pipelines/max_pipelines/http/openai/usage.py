"""What an answer has cost."""

from __future__ import annotations

import msgspec

from max_interfaces import TextGenerationOutput


class PromptDetails(msgspec.Struct, frozen=True):
    """`cached_tokens` of the prompt had not to be computed."""

    cached_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class Counted:
    """Counts the tokens of any number of requests."""

    def __init__(self) -> None:
        self._prompt = self._completion = self._cached = 0

    def add(self, output: TextGenerationOutput) -> None:
        """A request's last output has its numbers; all texts of `best_of` count, as they were made."""
        statistics = output.statistics
        if statistics is not None:
            self._prompt += statistics.prompt_tokens
            self._completion += statistics.generated_tokens
            self._cached += statistics.cached_tokens

    @property
    def usage(self) -> Usage:
        """All of them."""
        total = self._prompt + self._completion
        return Usage(self._prompt, self._completion, total, PromptDetails(self._cached))
