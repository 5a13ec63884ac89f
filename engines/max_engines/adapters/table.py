"""The adapters of one engine: what is loaded, and what is still in use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias
from weakref import WeakSet

from transformers import PreTrainedModel

from max_interfaces.errors import AdapterRefused
from max_interfaces.lora import LoRAStatus
from max_interfaces.protocols import SequenceStart

from ..device_errors import out_of_memory
from .folder import SETTINGS, PeftFolder, invalid
from .lora import LoraAdapter, read_lora
from .low_rank import product_type
from .places import Target, targets_of
from .soft_prompt import KINDS, SoftPrompt, read_soft_prompt

Adapter: TypeAlias = LoraAdapter | SoftPrompt


@dataclass(frozen=True, slots=True)
class Chosen:
    """What one sequence runs with. `key` tells it from all others that there have been in this engine."""

    key: str = ""
    lora: LoraAdapter | None = None
    prompt: SoftPrompt | None = None

    @property
    def length(self) -> int:
        """Positions that a soft prompt takes before the prompt."""
        return 0 if self.prompt is None else self.prompt.length


BARE = Chosen()


class AdapterTable:
    """An `Adapters` (see `max_interfaces.protocols`) for one model.

    Sequences hold the weights that they run with, and the table those that have a name: nobody counts, and the last
    who lets go frees them. There are at most `most` at a time, those counted that have lost their name.
    """

    def __init__(self, module: PreTrainedModel, most: int, max_rank: int, longest: int) -> None:
        self._module = module
        self._most = most
        self._max_rank = max_rank
        self._longest = longest
        self._named: dict[str, tuple[int, Adapter]] = {}
        self._held: WeakSet[Adapter] = WeakSet()
        self._loaded = 0

    @property
    def names(self) -> Collection[str]:
        """What is loaded, and may be named by a new sequence."""
        return tuple(self._named)

    @property
    def held(self) -> int:
        """How many there are, those counted that have no name any more and are still in use."""
        return len(self._held)

    def number(self, name: str) -> int:
        """See `Adapters.number`."""
        return self._named[name][0] if name in self._named else 0

    def load(self, name: str, path: str) -> None:
        """See `Adapters.load`."""
        if name in self._named:
            raise AdapterRefused(LoRAStatus.LOAD_NAME_EXISTS, f"adapter {name!r}: is loaded already; unload it first")
        if self.held >= self._most:
            used = self.held - len(self._named)
            waiting = f", {used} of which are unloaded and still in use" if used else ""
            what = f"{self.held} are there{waiting}; unload one, or raise engine.max_adapters = {self._most}"
            raise AdapterRefused(LoRAStatus.LOAD_ERROR, f"adapter {name!r}: no room, {what}")
        try:
            adapter = self._read(PeftFolder.at(path))
        except AdapterRefused as problem:
            raise AdapterRefused(problem.status, f"adapter {name!r}: {problem}") from problem
        except (RuntimeError, MemoryError) as problem:
            if not out_of_memory(problem):
                raise
            raise AdapterRefused(LoRAStatus.LOAD_ERROR, f"adapter {name!r}: does not fit in memory") from problem
        self._loaded += 1
        self._named[name] = self._loaded, adapter
        self._held.add(adapter)

    def unload(self, name: str) -> None:
        """See `Adapters.unload`."""
        if self._named.pop(name, None) is None:
            reason = f"adapter {name!r}: no adapter of that name is loaded"
            raise AdapterRefused(LoRAStatus.UNLOAD_NAME_NONEXISTENT, reason)

    def chosen(self, start: SequenceStart) -> Chosen:
        """What a sequence runs with. ValueError for a name that is not loaded, or is of the wrong kind."""
        if start.adapter is None and start.prompt_adapter is None:
            return BARE
        lora: LoraAdapter | None = None
        prompt: SoftPrompt | None = None
        key = ""
        for field in ("adapter", "prompt_adapter"):
            name = getattr(start, field)
            if name is None:
                continue
            number, adapter = self._find(field, name)
            key += f"{number} "
            if isinstance(adapter, LoraAdapter):
                if field == "prompt_adapter":
                    raise ValueError(f"prompt_adapter = {name!r}: is a LoRA adapter; name it as adapter")
                lora = adapter
            elif prompt is not None:
                raise ValueError(f"prompt_adapter = {name!r}: adapter is a soft prompt, too; name one of them")
            else:
                prompt = adapter
        if prompt is not None and start.sampling_params.prompt_logprobs is not None:
            raise ValueError("SamplingParams.prompt_logprobs: what follows a soft prompt is not scored; leave it None")
        return Chosen(key, lora, prompt)

    @cached_property
    def _targets(self) -> Mapping[str, Target]:
        return targets_of(self._module)

    def _find(self, field: str, name: str) -> tuple[int, Adapter]:
        found = self._named.get(name)
        if found is None:
            loaded = ", ".join(sorted(self._named)) or "none"
            raise ValueError(f"{field} = {name!r}: no adapter of that name is loaded (loaded: {loaded})")
        return found

    def _read(self, folder: PeftFolder) -> Adapter:
        settings = folder.settings()
        kind = settings.get("peft_type")
        embedding = self._module.get_input_embeddings().get_parameter("weight").detach()
        if kind == "LORA":
            return read_lora(folder, settings, self._targets, self._max_rank, product_type(embedding))
        if kind in KINDS:
            return read_soft_prompt(folder, settings, self._longest, embedding.shape[1], embedding)
        raise invalid(f"{SETTINGS}: peft_type = {kind!r:.80}: must be one of LORA, {', '.join(KINDS)}")
