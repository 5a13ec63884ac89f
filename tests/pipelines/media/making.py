"""Small files of images, sounds and films, honest ones and bombs."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
OPUS_RATE = 48_000


def picture(height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """A smooth picture, no two corners alike, which survives being compressed."""
    down, right = np.mgrid[0:height, 0:width]
    values = np.stack([down * 255 / height, right * 255 / width, 128 + 0 * down], axis=-1)
    return values.astype(np.uint8)


def image_file(image: Image.Image | NDArray[np.uint8], form: str = "PNG", **options: object) -> bytes:
    """It as a file."""
    file = io.BytesIO()
    shown = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    shown.save(file, form, **options)
    return file.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One of a PNG's."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """How a PNG of 8-bit RGB begins."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """About 1 KB that says it is 2.7 GB. What is there decodes; the rest would be zeros."""
    return png_header(width, height) + png_chunk(b"IDAT", zlib.compress(bytes(2**19), 9)) + png_chunk(b"IEND", b"")


def tone(seconds: float = 0.5, rate: int = 16_000, hertz: float = 440.0) -> NDArray[np.float32]:
    """A sine at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound_file(
    channels: NDArray[np.float32], rate: int, form: str = "wav", codec: str = "pcm_s16le", layout: str = "mono"
) -> bytes:
    """Samples [channels, n] as a file."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def film_file(
    frames: Sequence[NDArray[np.uint8]],
    rate: int = 10,
    form: str = "mp4",
    codec: str = "mpeg4",
    sound: NDArray[np.float32] | None = None,
    options: dict[str, str] | None = None,
) -> bytes:
    """Frames as a film, with a sound track at 16 kHz or without. `options` are the container's."""
    file = io.BytesIO()
    with av.open(file, "w", format=form, container_options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p" if codec != "mjpeg" else "yuvj420p"
        stream.codec_context.options = {"qscale": "2", "bf": "0"}
        stream.codec_context.bit_rate = 4_000_000
        track = container.add_stream("aac", rate=16_000, layout="mono") if sound is not None else None
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
        if sound is not None and isinstance(track, av.AudioStream):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), format="fltp", layout="mono")
            frame.sample_rate = 16_000
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return file.getvalue()


def greys(count: int, height: int = 32, width: int = 48) -> list[NDArray[np.uint8]]:
    """Frames that tell which they are: each is one grey, brighter by 5 than the one before."""
    return [np.full((height, width, 3), 20 + 5 * index, np.uint8) for index in range(count)]


def ogg_page(body: bytes, sizes: Sequence[int], granule: int, number: int, kind: int = 0) -> bytes:
    """A page of packets whose sizes are given."""
    lacing = b"".join(b"\xff" * (size // 255) + bytes([size % 255]) for size in sizes)
    head = struct.pack("<4sBBqIII", b"OggS", 0, kind, granule, 1, number, 0) + bytes([len(lacing)]) + lacing
    page = head + body
    return page[:22] + struct.pack("<I", ogg_checksum(page)) + page[26:]


def ogg_checksum(page: bytes) -> int:
    """Ogg's CRC is zlib's with its bits the other way round, and nothing inverted."""
    plain = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{plain:032b}"[::-1], 2)


def opus_file(seconds: int, last_granule: int | None = None, packet_bytes: int = 48) -> bytes:
    """Noise of a kind for so long, a second a page, made without an encoder: 50 packets of 20 ms each.

    `last_granule` is where the last page says that it ends, in samples of 48 kHz.
    """
    head = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 0, OPUS_RATE, 0, 0)
    tags = struct.pack("<8sI4sI", b"OpusTags", 4, b"test", 0)
    packet = bytes([9 << 3]) + bytes(range(packet_bytes - 1))  # SILK, wide band, 20 ms, one frame
    pages = [ogg_page(head, [len(head)], 0, 0, 2), ogg_page(tags, [len(tags)], 0, 1)]
    for second in range(1, seconds + 1):
        granule = second * OPUS_RATE
        if second == seconds and last_granule is not None:
            granule = last_granule
        pages.append(ogg_page(packet * 50, [packet_bytes] * 50, granule, second + 1, 4 if second == seconds else 0))
    return b"".join(pages)


def promising(film: bytes, count: int) -> bytes:
    """An MP4 whose tables promise so many samples of one size in one chunk, which takes not a byte more."""
    data = bytearray(film)
    for table, offset, words in ((b"stsz", 8, (1, count)), (b"stts", 12, (count,)), (b"stsc", 16, (count,))):
        struct.pack_into(f">{len(words)}I", data, data.index(table) + offset, *words)
    return bytes(data)


def many_frames(count: int, form: str = "matroska") -> bytes:
    """A film of one tiny frame, shown again and again, a thousand times a second."""
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream("mpeg4", rate=1000)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        packets = stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24"))
        packets += stream.encode(None)
        (packet,) = packets
        base = packet.time_base
        assert base is not None
        step = round(1 / (1000 * base))
        for index in range(count):
            packet.pts = packet.dts = index * step
            packet.time_base = base
            packet.stream = stream
            container.mux(packet)
    return file.getvalue()
