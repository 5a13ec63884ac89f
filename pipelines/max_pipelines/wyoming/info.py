"""What a client is told of the models, as voices."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from max_interfaces import PipelineTask
from max_interfaces.messages import ModelInfo

from ..http.problems import VALIDATION, HttpProblem
from .events import Voice

MAKER = {"name": "maxpipe", "url": ""}


def describe(models: Sequence[ModelInfo], languages: Sequence[str]) -> dict[str, object]:
    """The data of `info`: a program for each model that speaks, with its voices."""
    speaking = [info for info in models if info.task == PipelineTask.AUDIO_GENERATION.value]
    tts = [_program(info, languages) for info in speaking]
    return {"asr": [], "tts": tts, "handle": [], "intent": [], "wake": [], "mic": [], "snd": []}


def voices(info: ModelInfo) -> tuple[str, ...]:
    """The names of a model's voices. One that has a single one and no name for it is called as the model is."""
    return info.voices or (info.name,)


def voice_of(info: ModelInfo, voice: Voice | None, languages: Sequence[str]) -> str | None:
    """The model's voice that is meant, None for its first. HttpProblem 422 for one that there is not."""
    if voice is None:
        return None
    if voice.name is not None and voice.name not in voices(info) and not info.takes_samples:
        text = f"there is no voice {voice.name!r}; there are: {', '.join(voices(info))}"
    elif voice.speaker is not None:
        text = f"there is no speaker {voice.speaker!r}: no voice here has several"
    elif voice.name is None and voice.language is not None and _base(voice.language) not in map(_base, languages):
        text = f"no voice speaks {voice.language!r}; they speak: {', '.join(languages)}"
    else:
        return None if not info.voices and voice.name == info.name else voice.name
    raise HttpProblem(422, VALIDATION, text)


def _program(info: ModelInfo, languages: Sequence[str]) -> dict[str, object]:
    found = [{**_artifact(name, name), "languages": languages, "speakers": None} for name in voices(info)]
    return {**_artifact(info.name, "maxpipe"), "voices": found, "supports_synthesize_streaming": True}


def _artifact(name: str, description: str) -> dict[str, object]:
    about = {"attribution": MAKER, "installed": True, "version": version("maxpipe")}
    return {"name": name, "description": description, **about}


def _base(language: str) -> str:
    """`en` of en-GB and en_US."""
    return language.replace("_", "-").partition("-")[0].lower()
