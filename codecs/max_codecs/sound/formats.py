"""The file formats that sound can be sent in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

ANY_RATE = range(4000, 192_001)
Options: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """`container` and `codec` by FFmpeg's names, with their options; "" where we write it ourselves.

    `rates` are the sample rates that it can hold; `fallback` is taken where that of the sound is not among them.
    """

    name: str
    mime: str
    container: str = ""
    codec: str = ""
    rates: range | tuple[int, ...] = ANY_RATE
    fallback: int = 24_000
    container_options: Options = ()
    codec_options: Options = ()

    def rate_for(self, rate: int) -> int:
        """The rate that sound of a rate is sent at."""
        return rate if rate in self.rates else self.fallback


_MPEG_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)

FORMATS: Mapping[str, SoundFormat] = MappingProxyType(
    {
        form.name: form
        for form in (
            # No index and no tag before the sound, and no bits borrowed from frames to come: it can be heard at once.
            SoundFormat(
                "mp3",
                "audio/mpeg",
                "mp3",
                "libmp3lame",
                _MPEG_RATES,
                container_options=(("write_xing", "0"), ("id3v2_version", "0")),
                codec_options=(
                    ("b", "96k"),
                    ("reservoir", "0"),
                    ("compression_level", "5"),
                ),  # half the work, no worse for speech
            ),
            # A page every 20 ms, where FFmpeg would wait for a second of sound.
            SoundFormat(
                "opus",
                "audio/ogg",
                "ogg",
                "libopus",
                (8000, 12_000, 16_000, 24_000, 48_000),
                48_000,
                container_options=(("page_duration", "20000"),),
                codec_options=(("b", "48k"),),
            ),
            SoundFormat("aac", "audio/aac", "adts", "aac", _MPEG_RATES, codec_options=(("b", "96k"),)),
            SoundFormat("flac", "audio/flac", "flac", "flac", codec_options=(("frame_size", "1152"),)),
            SoundFormat("wav", "audio/wav"),
            SoundFormat("pcm", "audio/pcm"),
        )
    }
)
"""By the names of the OpenAI API. Opus comes in Ogg; pcm is little-endian 16 bit, without a header."""
