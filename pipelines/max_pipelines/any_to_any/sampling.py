"""transformers' keyword arguments of `generate`, as sampling parameters of the road."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self

from max_interfaces import SamplingParams

MAX_NEW_TOKENS = 256  # of the pipeline of transformers
GUIDANCE = 5.0  # of Janus in transformers
OF_TEXTS = ("min_new_tokens", "repetition_penalty", "num_beams", "length_penalty", "eos_token_id")


@dataclass(frozen=True, slots=True)
class Sampling:
    """transformers' names. What is None is the checkpoint's `generation_config`'s to say; without one it is greedy.

    `guidance_scale` is of pictures, which have as many tokens as they have, whatever `max_new_tokens` says.
    `seed`, which transformers does not have, makes a draw the same again.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    eos_token_id: int | list[int] | None = None
    seed: int | None = None
    guidance_scale: float | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Self:
        """From keyword arguments, and a generation config. TypeError for one that is not known."""
        known = [one.name for one in fields(cls) if one.name != "defaults"]
        for name in given:
            if name not in known:
                near = get_close_matches(name, known, 1)
                raise TypeError(f"unknown argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return cls(**given, defaults={name: value for name, value in defaults.items() if value is not None})

    def params(self, *, skip_special_tokens: bool = True, stop: tuple[str, ...] = ()) -> SamplingParams:
        """As the road takes them. ValueError, by its name, for what is out of its bounds."""
        if self.guidance_scale is not None:
            raise ValueError("guidance_scale: is for generation_mode = 'image'")
        ends = self.eos_token_id
        beams = self._value("num_beams", 1)
        return SamplingParams(
            **self._draw(beams == 1),
            repetition_penalty=self._value("repetition_penalty", 1.0),
            repetition_context_size=None,
            max_new_tokens=self._value("max_new_tokens", MAX_NEW_TOKENS),
            min_new_tokens=self._value("min_new_tokens", 0),
            stop=stop,
            stop_token_ids=() if ends is None else (ends,) if isinstance(ends, int) else tuple(ends),
            ignore_eos=ends is not None,
            skip_special_tokens=skip_special_tokens,
            include_stop_text=bool(stop),
            **({"beam_width": beams, "length_penalty": self._value("length_penalty", 1.0)} if beams > 1 else {}),
        )

    def of_picture(self) -> tuple[SamplingParams, float]:
        """How the codes of a picture are chosen, and its guidance. ValueError for what is of texts alone."""
        for name in OF_TEXTS:
            if getattr(self, name) is not None:
                raise ValueError(f"{name}: is for texts, and nothing to a picture; leave it out")
        return SamplingParams(**self._draw(True)), float(self._value("guidance_scale", GUIDANCE))

    def _draw(self, possible: bool) -> dict[str, Any]:
        """By what a token is chosen; the likeliest unless it is drawn."""
        if not (possible and self._value("do_sample", False)):
            return {"temperature": 0.0, "seed": self.seed}
        filters = {name: self._value(name, off) for name, off in (("top_p", 1.0), ("typical_p", 1.0), ("min_p", 0.0))}
        top_k = self._value("top_k", 50) or -1
        return {**filters, "temperature": self._value("temperature", 1.0), "top_k": top_k, "seed": self.seed}

    def _value(self, name: str, otherwise: Any) -> Any:
        given = getattr(self, name)
        return self.defaults.get(name, otherwise) if given is None else given
