"""`LLM`: vLLM's class for many prompts at once, on this engine."""

from __future__ import annotations

import functools
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

from ..client.held import Held
from .arguments import warn_if_trusted
from .async_llm import AsyncLLM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

P = ParamSpec("P")
ResultT = TypeVar("ResultT")
InitT = TypeVar("InitT", bound=Callable[..., None])


def _waiting(
    method: Callable[Concatenate[AsyncLLM, P], Coroutine[Any, Any, ResultT]],
) -> Callable[Concatenate[LLM, P], ResultT]:
    """The same call for a caller that waits."""

    def call(self: LLM, /, *args: P.args, **kwargs: P.kwargs) -> ResultT:
        self._legacy(kwargs)
        return self._held.run(method(self._llm, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _iterating(
    method: Callable[Concatenate[AsyncLLM, P], AsyncGenerator[ResultT, None]],
) -> Callable[Concatenate[LLM, P], Iterator[ResultT]]:
    """The same outputs for a caller that waits for each."""

    def call(self: LLM, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[ResultT]:
        return self._held.iterate(method(self._llm, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def _by_name(init: InitT) -> InitT:
    """Warn who gives anything but the model by its position, while `DEPRECATE_INIT_POSARGS` says so."""

    @functools.wraps(init)
    def call(self: LLM, *args: Any, **kwargs: Any) -> None:
        if len(args) > 1 and self.DEPRECATE_INIT_POSARGS:
            text = "LLM: give all arguments but `model` by their names"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        init(self, *args, **kwargs)

    return call  # type: ignore[return-value]


class LLM:
    """vLLM's `LLM`: a model, its tokenizer, its memory, for many prompts at once.

    Arguments as in vLLM's document, by their names there; those that cannot mean anything here are accepted, with one
    warning that says why. Ours are `transport` ("process"; "thread" runs the model in this process, which functions
    as logits processors need), `device` (the first GPU, or cpu), `threads` and `start_timeout_s`. `dtype` "auto" takes
    what the checkpoint was saved in: float32 stays float32, other than in vLLM. Any thread may call it; calls run side
    by side in one batch. Ctrl-C ends a call and leaves nothing of it behind. `with LLM(model) as llm` ends its
    processes at the end of the block; otherwise they end with it.

    `task` "auto" takes an encoder, a decoder without its head, and what sentence-transformers has saved for a model
    that makes vectors: it has `encode`, `embed` and `score`; any other has `generate`, `chat` and the streams.

    TypeError for an unknown argument, with the nearest name; ValueError for one that cannot be had; StartFailed if the
    model cannot be loaded.
    Source: the documentation of vLLM 0.6.4.
    """

    DEPRECATE_LEGACY: ClassVar[bool] = False
    """Whether `prompt_token_ids` as an argument is warned of."""
    DEPRECATE_INIT_POSARGS: ClassVar[bool] = True
    """Whether arguments of `LLM` that are given by their position are warned of."""

    @_by_name
    def __init__(
        self,
        model: str,
        tokenizer: str | None = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        quantization: str | None = None,
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        seed: int | None = 0,
        gpu_memory_utilization: float = 0.9,
        swap_space: float = 4,
        cpu_offload_gb: float = 0,
        enforce_eager: bool | None = None,
        max_context_len_to_capture: int | None = None,
        max_seq_len_to_capture: int = 8192,
        disable_custom_all_reduce: bool = False,
        disable_async_output_proc: bool = False,
        **kwargs: Any,
    ) -> None:
        warn_if_trusted(trust_remote_code)
        self._llm = AsyncLLM(
            model,
            tokenizer=tokenizer,
            tokenizer_mode=tokenizer_mode,
            skip_tokenizer_init=skip_tokenizer_init,
            tensor_parallel_size=tensor_parallel_size,
            dtype=dtype,
            quantization=quantization,
            revision=revision,
            tokenizer_revision=tokenizer_revision,
            seed=seed,
            gpu_memory_utilization=gpu_memory_utilization,
            swap_space=swap_space,
            cpu_offload_gb=cpu_offload_gb,
            enforce_eager=enforce_eager,
            max_context_len_to_capture=max_context_len_to_capture,
            max_seq_len_to_capture=max_seq_len_to_capture,
            disable_custom_all_reduce=disable_custom_all_reduce,
            disable_async_output_proc=disable_async_output_proc,
            **kwargs,
        )
        self._held = Held(self._llm, "maxpipe-llm")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all that runs, and the model's processes. Safe to call twice."""
        self._held.close()

    generate = _waiting(AsyncLLM.generate)
    chat = _waiting(AsyncLLM.chat)
    encode = _waiting(AsyncLLM.encode)
    embed = _waiting(AsyncLLM.embed)
    score = _waiting(AsyncLLM.score)
    beam_search = _waiting(AsyncLLM.beam_search)
    stream = _iterating(AsyncLLM.stream)
    stream_chat = _iterating(AsyncLLM.stream_chat)

    def cancel(self, request_id: str) -> None:
        """End a request now, from any thread; its result is what it has, with the finish reason `abort`."""
        self._held.soon(self._llm.cancel, request_id)

    def get_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of transformers. ValueError for an LLM without one."""
        return self._llm.get_tokenizer()

    def _legacy(self, given: Mapping[str, object]) -> None:
        if self.DEPRECATE_LEGACY and given.get("prompt_token_ids") is not None:
            warnings.warn("prompt_token_ids: give TokensPrompt(prompt_token_ids=…)", DeprecationWarning, stacklevel=3)
