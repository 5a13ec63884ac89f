"""From a prompt and its media to hidden states: all that a model does before its language model begins."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import groupby
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from max_interfaces.protocols import Feature

from ..device_errors import device_lost, out_of_memory
from ..loading import LoadedModel, first_line
from ..prompt_states import PromptStates
from .interrupted import NO_PAUSE, arguments_of_language_model
from .joint import joint_runs
from .perceived import TEXT_ALONE, Part, Perceived
from .positions import Positions
from .slices import Pause, Slices

# What the language model may be told. Anything else would change what it computes, and is refused.
STATES, POSITIONS, MASK = "inputs_embeds", "position_ids", "attention_mask"
DEEPER_AT, DEEPER = "visual_pos_masks", "deepstack_visual_embeds"
UNDERSTOOD = frozenset({STATES, POSITIONS, MASK, DEEPER_AT, DEEPER, "use_cache", "return_dict"})
NO_FEATURES = frozenset({"self", "input_ids", "inputs_embeds", "attention_mask", "position_ids", "past_key_values"})
NO_FEATURES |= {"labels", "use_cache", "logits_to_keep", "mm_encoder_outputs", "kwargs"}
REFUSED = (ValueError, TypeError, IndexError, RuntimeError, StopIteration)  # what transformers raises of bad features


class Encoders:
    """The encoders of a model, for one prompt at a time: so what they give does not depend on who else is there.

    The model's own forward runs, up to its language model: nothing of any architecture is written down here. Who has
    the same prompt and media as another that is still there, shares its states.
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._known: WeakValueDictionary[bytes, Perceived] = WeakValueDictionary()
        self._names: frozenset[str] = frozenset()
        if model.whole is not None:
            self._names = frozenset(inspect.signature(type(model.whole).forward).parameters) - NO_FEATURES

    def encoding(self, prompt: Sequence[int], media: Sequence[Feature]) -> Slices[Perceived]:
        """`perceive` in slices; who keeps it has what it found for the next call."""
        return Slices(lambda pause: self.perceive(prompt, media, pause))

    def perceive(self, prompt: Sequence[int], media: Sequence[Feature], pause: Pause = NO_PAUSE) -> Perceived:
        """What the media of a prompt are to the language model. ValueError, naming the field, if they do not fit.

        It rests where others can use the model, if `pause` is due.
        """
        if not media:
            return TEXT_ALONE
        if self._model.whole is None:
            raise ValueError(f"SequenceStart.media: {self._model.name!r} takes text alone; leave it out")
        for feature in media:
            if feature.name not in self._names:
                known = ", ".join(sorted(self._names))
                raise ValueError(f"SequenceStart.media: {feature.name!r}: {self._model.name!r} takes {known}")
        key = _key(prompt, media)
        perceived = self._known.get(key)
        if perceived is None:
            perceived = self._known[key] = self._encode(self._model.whole, prompt, media, pause)
        return perceived

    @torch.inference_mode()
    def _encode(
        self, whole: PreTrainedModel, prompt: Sequence[int], media: Sequence[Feature], pause: Pause
    ) -> Perceived:
        ids = torch.tensor([list(prompt)], dtype=torch.int64, device=self._model.device)
        features = {feature.name: self._tensor(feature) for feature in media}
        try:
            told = arguments_of_language_model(whole, ids, features, pause)
        except REFUSED as problem:
            if out_of_memory(problem) or device_lost(problem, self._model.device):
                raise
            what = f"do not fit its prompt of {len(prompt)} tokens, or each other"
            raise ValueError(f"SequenceStart.media: {what} ({first_line(problem)})") from problem
        strange = sorted(name for name, value in told.items() if name not in UNDERSTOOD and value is not None)
        states = told[STATES]
        if strange or not isinstance(states, Tensor) or states.shape[:2] != ids.shape:
            what = f"its language model is told of {', '.join(strange)}" if strange else "they take more than one token"
            raise ValueError(f"SequenceStart.media: the engine cannot run {self._model.name!r} with them: {what}")
        return self._perceived(ids, states[0], told)

    def _perceived(self, ids: Tensor, states: Tensor, told: Mapping[str, object]) -> Perceived:
        looked_up = self._model.module.get_input_embeddings()(ids)[0]
        rows = (states != looked_up).any(-1)
        if not bool(states.isfinite().all()):
            raise ValueError("SequenceStart.media: its encoders make NaN or infinite numbers of them")
        places: list[int] = rows.nonzero()[:, 0].tolist()
        deeper = _deeper(told, rows, states)
        joint = joint_runs(told.get(MASK), getattr(self._model.config, "sliding_window", None))
        parts = [Part.of(first, last, states, *deeper) for first, last in joint]
        for first, last in _runs(places):
            if not any(start <= first and last <= stop for start, stop in joint):
                parts.append(Part.of(first, last, states, *deeper))
        put = PromptStates(places, states[rows], tuple(layer[rows] for layer in deeper))
        return Perceived(put, self._positions(told.get(POSITIONS), len(states)), joint, tuple(parts))

    def _positions(self, given: object, length: int) -> Positions | None:
        """None for those of text."""
        if not isinstance(given, Tensor):
            return None
        axes = given.cpu().reshape(-1, length)[-3:]  # a fourth, the first, is that of text
        if bool((axes == torch.arange(length)).all()):
            return None
        if len(axes) != 3:
            raise ValueError(f"SequenceStart.media: the engine cannot run {self._model.name!r} with its positions")
        positions = Positions(axes.contiguous())
        if not 0 <= int(axes.min()) <= positions.furthest < self._model.context_length:
            most = f"the context of {self._model.context_length}"
            raise ValueError(f"SequenceStart.media: reach up to position {positions.furthest}, which is beyond {most}")
        return positions

    def _tensor(self, feature: Feature) -> Tensor:
        """A feature on the model's device, floats in the model's type."""
        array = torch.tensor(feature.array)
        return array.to(self._model.device, self._model.dtype if array.is_floating_point() else torch.int64)


def _deeper(told: Mapping[str, object], rows: Tensor, states: Tensor) -> list[Tensor]:
    """What is added to each of the first layers, `[tokens, hidden]`; nothing where there is nothing to add."""
    where, added = told.get(DEEPER_AT), told.get(DEEPER)
    if not isinstance(where, Tensor) or not isinstance(added, list):
        return []
    layers: list[Tensor] = []
    for layer in added:
        layers.append(torch.zeros_like(states))
        layers[-1][where[0]] = layer.to(states.dtype)
        if bool((layers[-1].any(-1) & ~rows).any()):
            raise ValueError("SequenceStart.media: something is added to a layer where no image is")
    return layers


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours among sorted `places`: [3, 4, 8] is [(3, 5), (8, 9)]."""
    found: list[tuple[int, int]] = []
    for _, run in groupby(enumerate(places), lambda entry: entry[1] - entry[0]):
        members = [place for _, place in run]
        found.append((members[0], members[-1] + 1))
    return found


def _key(prompt: Sequence[int], media: Sequence[Feature]) -> bytes:
    state = blake2b(repr((tuple(prompt), [(f.name, f.shape, f.values.dtype.str) for f in media])).encode())
    for feature in media:
        state.update(feature.values.tobytes())
    return state.digest()
