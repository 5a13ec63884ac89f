"""What may be asked of a text that is spoken."""

from __future__ import annotations

from collections.abc import Collection

from .plan import TextPlan


def check_voice(voice: str | None, plan: TextPlan, voices: Collection[str]) -> None:
    """ValueError for a voice that the model does not have, or for what cannot be had with one."""
    if voice is None:
        return
    if voice not in voices:
        known = f"must be one of {', '.join(voices)}" if voices else "this model does not speak; leave it out"
        raise ValueError(f"voice = {voice!r:.80}: {known}")
    if plan.stop:
        raise ValueError(f"stop = {plan.stop!r:.80}: a spoken text ends by its ids; give stop_token_ids")
    if plan.sequences > 1 or plan.searched:
        raise ValueError(f"voice = {voice!r:.80}: one text is spoken; leave n, best_of and beam_width")
