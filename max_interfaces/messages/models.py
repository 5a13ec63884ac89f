"""What is served."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from ..bounds import Count, Name
from .header import Names

Pause = Annotated[float, Meta(ge=0, le=10)]  # seconds


class ModelInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a client should know of a served model. 0 where nothing is known, or nothing bounds it.

    `max_words` bounds one part of a text that is spoken, `max_tokens` a prompt and its answer together. `adapters` may
    be named by requests; with `loads_adapters` more can be loaded while it serves. `media` are the kinds that
    requests may have beside text. A model that speaks `normalizes` what is said otherwise than written, and `spells`
    that in the letters that it knows; its pauses between two sentences are told in seconds. With `takes_samples` a
    request may have a sample of a voice, and `voices` may come and go while it serves.
    """

    name: Name
    task: Name
    sample_rate: Count = 0
    voices: Names = ()
    max_words: Count = 0
    max_tokens: Count = 0
    adapters: Names = ()
    loads_adapters: bool = False
    media: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()
    normalizes: bool = False
    spells: bool = False
    shortest_pause_s: Pause = 0.4
    longest_pause_s: Pause = 0.6
    takes_samples: bool = False


Models = Annotated[tuple[ModelInfo, ...], Meta(max_length=4096)]
