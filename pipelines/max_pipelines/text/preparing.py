"""What a request waits for before its sequences can start: its prompt from a template, its grammar from a compiler."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from max_engines.constraints.combined import sequence_constraint
from max_engines.constraints.compiling import Compiling, GrammarCompiler
from max_engines.constraints.grammar import Grammar
from max_engines.constraints.matching import CompiledGrammar
from max_engines.constraints.thinking import ThinkingTags
from max_engines.constraints.vocabulary import Vocabulary
from max_engines.media import Perceived, Slices
from max_engines.templating import Rendering
from max_engines.tokenizer import TextTokenizer
from max_interfaces import Attempt, Feature, SamplingParams, TextGenerationRequest
from max_interfaces.protocols import TokenConstraint
from max_interfaces.sampling import DEFAULT_SAMPLING

from .perceiving import Perceiving
from .plan import TextPlan
from .prompting import TextPrompter
from .resuming import Progress


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Everything that the sequences of a request start from."""

    prompt: tuple[int, ...]
    grammar: CompiledGrammar | None
    media: tuple[Feature, ...] = ()


@dataclass(slots=True, eq=False)
class Preparation:
    """A request on its way to its first step."""

    attempt: Attempt[TextGenerationRequest]
    plan: TextPlan
    earlier: list[Progress]
    prompter: TextPrompter
    constrainer: Constrainer
    rendering: Rendering | None
    compiling: Compiling | None
    adapters: tuple[int, int]  # what their names stood for when it came
    born: float = field(default_factory=time.monotonic)
    perceiving: Perceiving | None = None
    encoding: Slices[Perceived] | None = None

    def poll(self) -> Prepared | None:
        """What the request waited for, or None as long as it is under way. ValueError: why it cannot be served."""
        request, rendered, grammar, read = self.attempt.request, None, None, None
        if self.rendering is not None and (rendered := self.rendering.poll()) is None:
            return None
        if self.perceiving is None:
            self.perceiving = self.prompter.perceiving(request, rendered)
        if self.perceiving is not None and (read := self.perceiving.poll()) is None:
            return None
        if self.compiling is not None and (grammar := self.compiling.poll()) is None:
            return None
        if self.prompter.adapters(request) != self.adapters:
            raise ValueError("adapter_id: was loaded anew before the request could begin; ask again")
        if read is None:
            return Prepared(self.prompter.prompt(request, rendered), grammar)
        return Prepared(self.prompter.fitted(read.ids), grammar, read.media)

    def wait(self, seconds: float) -> None:
        """Return when something of it is done, or after so long."""
        if self.rendering is not None and not self.rendering.done:
            self.rendering.wait(seconds)
        elif self.perceiving is not None and not self.perceiving.done:
            self.perceiving.wait(seconds)
        else:
            self.constrainer.wait(seconds)

    def cancel(self) -> None:
        """Nobody waits any more."""
        for under_way in (self.rendering, self.perceiving, self.compiling):
            if under_way is not None:
                under_way.cancel()
        if self.encoding is not None:
            self.encoding.close()


class Constrainer:
    """Grammars and thinking budgets of one model."""

    def __init__(self, tokenizer: TextTokenizer, vocab_size: int, eos_token_ids: frozenset[int]) -> None:
        self._vocabulary = Vocabulary.of(tokenizer.inner, size=vocab_size, end_ids=eos_token_ids)
        self._tokenizer = tokenizer.inner
        self._tags = ThinkingTags.of(tokenizer.inner)
        self._compiler = GrammarCompiler(self._vocabulary)

    def start(self) -> None:
        """Read the vocabulary, so that the first grammar does not stop all others for as long as that takes."""
        self._compiler.prepare()

    def compiling(self, request: TextGenerationRequest) -> Compiling | None:
        """Begin to compile a request's grammar, if it has one. Does not wait. ValueError for what is none."""
        grammar = Grammar.requested(request.sampling_params.grammar, request.response_format)
        return None if grammar is None else self._compiler.submit(grammar)

    def constraint(
        self, prompt: tuple[int, ...], params: SamplingParams, grammar: CompiledGrammar | None
    ) -> TokenConstraint | None:
        """What one sequence after `prompt` may say. ValueError for thinking tokens that the model does not have."""
        tags = self._tags if _named(params) == _named(DEFAULT_SAMPLING) else self._other_tags(params)
        return sequence_constraint(
            prompt, self._vocabulary, grammar=grammar, tags=tags, thinking_budget=params.thinking_budget
        )

    def thinking(self, prompt: tuple[int, ...]) -> bool:
        """Whether a text that follows `prompt` begins within a `<think>` block."""
        return self._tags is not None and self._tags.open_after(prompt)

    def _other_tags(self, params: SamplingParams) -> ThinkingTags:
        tags = ThinkingTags.of(self._tokenizer, params)
        if tags is None:
            start, end = _named(params)
            raise ValueError(
                f"SamplingParams.thinking_start_token = {start!r:.80}, thinking_end_token = {end!r:.80}: must be "
                "tokens that were added to this model's tokenizer"
            )
        return tags

    def wait(self, seconds: float) -> None:
        """Return when a grammar is compiled, or after so long."""
        self._compiler.wait(seconds)

    def close(self) -> None:
        """End what compiles."""
        self._compiler.close()


def _named(params: SamplingParams) -> tuple[str, str]:
    return params.thinking_start_token, params.thinking_end_token
