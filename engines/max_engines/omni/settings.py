"""How the talker samples, and how its codes become sound."""

from __future__ import annotations

from dataclasses import dataclass

from max_interfaces.sampling import SamplingParams

# transformers' own defaults for Qwen2.5-Omni's talker; 4096 codes are 82 seconds.
TALKER = SamplingParams(temperature=0.9, top_k=40, top_p=0.8, repetition_penalty=1.05, max_new_tokens=4096)


@dataclass(frozen=True, slots=True)
class OmniSettings:
    """`talker` samples the codes. Each stretch of sound is `steps` - 1 steps of a differential equation, with
    `guidance` towards what was said.

    Sound is made of blocks of the model's own, and decoded in stretches of so many of them as `stretch` says, the last
    again and again. `ahead` blocks must follow one, and `behind` come before it, when it is decoded; at the end of a
    text there are fewer. More of them bring the stream nearer to the sound that is decoded in one piece, and `ahead`
    makes it later.
    """

    talker: SamplingParams = TALKER
    steps: int = 10
    guidance: float = 0.5
    stretch: tuple[int, ...] = (1, 2, 4)
    behind: int = 3
    ahead: int = 2
