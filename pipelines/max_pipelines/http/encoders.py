"""Encoders that are open before anybody asks for one: to open one takes up to a millisecond of the wait for a sound."""

from __future__ import annotations

import asyncio

from max_codecs.sound.encoder import SoundEncoder, open_encoder
from max_codecs.sound.formats import SoundFormat

MOST = 16  # that are kept ready


class Encoders:
    """One is ready for each format and rate that was asked for lately."""

    def __init__(self) -> None:
        self._ready: dict[tuple[str, int, int], SoundEncoder] = {}

    def take(self, form: SoundFormat, rate: int, to_rate: int) -> SoundEncoder:
        """An encoder that nobody else has. ValueError as `open_encoder`."""
        return self._ready.pop((form.name, rate, to_rate), None) or open_encoder(form, rate, to_rate)

    def prepare(self, form: SoundFormat, rate: int, to_rate: int) -> None:
        """Open another one like it as soon as the loop has nothing better to do: somebody's sound has ended."""
        asyncio.get_running_loop().call_soon(self._prepare, form, rate, to_rate)

    def _prepare(self, form: SoundFormat, rate: int, to_rate: int) -> None:
        key = form.name, rate, to_rate
        if key in self._ready:
            return
        if len(self._ready) == MOST:
            del self._ready[next(iter(self._ready))]
        self._ready[key] = open_encoder(form, rate, to_rate)
