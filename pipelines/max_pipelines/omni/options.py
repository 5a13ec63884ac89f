"""What `pipeline.options` may say of a model that speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from ..config.section import Section

if TYPE_CHECKING:
    from max_engines.omni import OmniSettings


class OmniOptions(Section, frozen=True):
    """How codes are sampled and decoded; see `max_engines.omni.OmniSettings`. Defaults are those of transformers.

    `max_codes` bounds the sound of one text: 50 of them are a second.
    """

    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.9
    top_k: Annotated[int, Meta(ge=-1, le=2**20)] = 40
    top_p: Annotated[float, Meta(gt=0, le=1)] = 0.8
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] = 1.05
    max_codes: Annotated[int, Meta(ge=1, le=2**16)] = 4096
    steps: Annotated[int, Meta(ge=2, le=100)] = 10
    guidance: Annotated[float, Meta(ge=0, le=10)] = 0.5
    behind: Annotated[int, Meta(ge=0, le=64)] = 3
    ahead: Annotated[int, Meta(ge=0, le=64)] = 2

    @property
    def settings(self) -> OmniSettings:
        """As the engine takes them."""
        from max_engines.omni import OmniSettings
        from max_interfaces import SamplingParams

        talker = SamplingParams(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            max_new_tokens=self.max_codes,
        )
        return OmniSettings(talker, self.steps, self.guidance, behind=self.behind, ahead=self.ahead)
