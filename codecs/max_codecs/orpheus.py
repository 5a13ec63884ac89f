"""Orpheus 3B (canopyai/Orpheus-TTS) as data; `configs/orpheus.yaml` says the same in YAML."""

from __future__ import annotations

from .layout import SpeechLayout
from .prompt import PromptFormat, ReferenceFormat, Voice

_BEGIN_OF_TEXT, _END_OF_TEXT = 128000, 128009
_START_OF_SPEECH, _END_OF_SPEECH = 128257, 128258
_START_OF_HUMAN, _END_OF_HUMAN, _START_OF_AI, _END_OF_AI = 128259, 128260, 128261, 128262

_VOICES = ("tara", "leah", "jess", "leo", "dan", "mia", "zac", "zoe")  # as the README orders them, by realism

ORPHEUS = SpeechLayout(
    audio_base=128266,
    codebook_size=4096,
    end_ids=(_END_OF_SPEECH,),
    prompt=PromptFormat(
        before_text=(_START_OF_HUMAN, _BEGIN_OF_TEXT),
        text="{voice}: {text}",
        after_text=(_END_OF_TEXT, _END_OF_HUMAN),
        speech=(_START_OF_AI, _START_OF_SPEECH),
        voices=tuple(Voice(name) for name in _VOICES),
        reference=ReferenceFormat(
            before_text=(_START_OF_HUMAN, _BEGIN_OF_TEXT),
            after_text=(_END_OF_TEXT, _END_OF_HUMAN),
            before_audio=(_START_OF_AI, _START_OF_SPEECH),
            after_audio=(_END_OF_SPEECH, _END_OF_AI),
            text="{text}",
        ),
    ),
)
