"""Voices that clients add over HTTP. Encoding one takes a process of its own, which has torch: the face stays small."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from functools import cached_property
from pathlib import Path

import msgspec

from ..config import Config
from ..voices.file import MAX_TRANSCRIPT, About
from ..voices.folder import VoiceFolder, check_name, folder_of
from .problems import INTERNAL, OVERLOADED, VALIDATION, HttpProblem

ENCODING_S = 120.0  # an encoder loads within seconds, and is quicker than the sound
REFUSED = 2  # the command's exit code for what was asked wrongly


class Uploads:
    """One voice at a time, each by the command that a user would type."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._busy = asyncio.Lock()

    @cached_property
    def _folder(self) -> VoiceFolder:
        """Found once, and never on the event loop: that reads the codec's weights."""
        return folder_of(self._config)

    def described(self) -> list[dict[str, object]]:
        """What is known of each voice that was added, but for damaged ones. Reads files."""
        found: list[dict[str, object]] = []
        for name in self._folder.names:
            with contextlib.suppress(ValueError):  # who asks for that voice is told why it cannot be used
                if (voice := self._folder.find(name)) is not None:
                    found.append(_described(name, voice.about))
        return found

    async def add(self, name: str, sample: bytes, transcript: str, consent: str) -> dict[str, object]:
        """What is known of the new voice. HttpProblem 409, 422, 429 or 500; ValueError for a name that is none, or
        words that are too many.
        """
        words = " ".join(transcript.split())
        for field, text in (("ref_text", words), ("consent", consent)):
            if len(text) > MAX_TRANSCRIPT:  # and a command line holds only so much
                raise ValueError(f"{field}: has {len(text)} characters, at most {MAX_TRANSCRIPT} are taken")
        await asyncio.to_thread(self._check_is_new, name)
        if self._busy.locked():
            raise HttpProblem(429, OVERLOADED, "another voice is being added", {"retry-after": "5"})
        async with self._busy:
            await self._encode(name, sample, words, consent)
        voice = await asyncio.to_thread(self._folder.find, name)
        if voice is None:
            raise HttpProblem(500, INTERNAL, f"{name}: was added, and is gone again")
        return _described(name, voice.about)

    def remove(self, name: str) -> None:
        """ValueError for a name that is none; HttpProblem 404 if there is no such voice. Reads files."""
        check_name(name)
        if name not in self._folder.all:
            raise HttpProblem(404, VALIDATION, f"name: no voice {name!r} was added here")
        self._folder.remove(name)

    def _check_is_new(self, name: str) -> None:
        check_name(name)
        if name in self._folder.all:
            raise HttpProblem(409, VALIDATION, f"name: there is a voice {name!r}; remove it first")

    async def _encode(self, name: str, sample: bytes, transcript: str, consent: str) -> None:
        with tempfile.TemporaryDirectory(prefix="maxpipe-voice-") as place:
            file, config = Path(place, "sample"), Path(place, "config.yaml")
            file.write_bytes(sample)
            config.write_bytes(msgspec.yaml.encode(self._config))
            options = ["--config", str(config), f"--consent={consent}"]
            command = [sys.executable, "-m", "max_pipelines.cli", "voices", "add", *options, "--", name, str(file)]
            process = await asyncio.create_subprocess_exec(
                *command, transcript, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            try:
                async with asyncio.timeout(ENCODING_S):
                    _, said = await process.communicate()
            except TimeoutError:
                raise HttpProblem(500, INTERNAL, f"the sample was not encoded within {ENCODING_S:g} s") from None
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines() or ["the sample could not be encoded"]
            refused = process.returncode == REFUSED
            text = lines[-1].removeprefix("maxpipe voices: ")
            raise HttpProblem(422 if refused else 500, VALIDATION if refused else INTERNAL, text)


def _described(name: str, about: About) -> dict[str, object]:
    return {
        "name": name,
        "consent": about.consent,
        "created_at": about.created,
        "ref_text": about.transcript,
        "seconds": about.seconds,
    }
