"""The engine of CSM, as YAML asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from max_codecs.layout import SpeechLayout

from .config import Config
from .engines import ServedGenerator, engine_limits, weight_options

if TYPE_CHECKING:
    from max_engines.csm.ids import FrameIds


def csm_engine(config: Config) -> ServedGenerator:
    """Ours, for a model that writes a frame of codes a step. ValueError for a layout that is not the model's."""
    from max_engines.csm import CsmEngine, load_csm

    limits = engine_limits(config)  # what is wrong with it is said before minutes of loading
    wanted = config.model
    model = load_csm(
        wanted.location,
        dtype=wanted.dtype,
        device=wanted.device,
        revision=wanted.revision,
        weights=weight_options(wanted),
    )
    if config.speech is not None:
        _check(config.speech.spoken.layout, model.ids)
    generator = CsmEngine(model, limits)
    backbone = generator.backbone
    return ServedGenerator(
        generator,
        model.ids.vocab_size,
        generator.max_length,
        frozenset((model.ids.end_id,)),
        lambda: {"blocks": backbone.blocks, "free_blocks": backbone.free_blocks},
        step_s=backbone.step_s,
    )


def _check(layout: SpeechLayout, ids: FrameIds) -> None:
    """ValueError, naming the key, where the ids of the file are not those of the model."""
    codebooks = range(ids.codebooks)
    found: dict[str, tuple[object, object]] = {
        "audio_base": (layout.audio_base, ids.text_size),
        "ids_per_slot": (layout.band, ids.size),
        "slots": ([*layout.slots], [(codebook, 0) for codebook in codebooks]),
        "slot_offsets": ([*layout.offsets], [codebook * ids.size for codebook in codebooks]),
        "end_ids": ([*layout.end_ids], [ids.end_id]),
    }
    for key, (given, own) in found.items():
        if given != own:
            raise ValueError(f"speech.format.layout.{key} is {given}: this model's is {own}")
