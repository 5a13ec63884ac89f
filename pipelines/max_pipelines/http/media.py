"""Images, sounds and films of a request: read from its body, or fetched from the hosts that the config names."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from max_interfaces.messages import ModelInfo
from max_interfaces.text import MediaKind

from ..config import HttpConfig
from ..media import Access
from ..media.given import EncodedMedia, GivenMedia, what_is_taken

READERS = 8  # at once: who waits for a slow host holds up seven others at most
PARTS = {MediaKind.IMAGE: "image_url", MediaKind.AUDIO: "input_audio", MediaKind.VIDEO: "video_url"}  # as bodies say


class MediaReader:
    """Reads what bodies hold and name, in threads: decoding base64 takes time, and fetching longer."""

    def __init__(self, config: HttpConfig) -> None:
        hosts, private = frozenset(config.media_hosts), frozenset(config.private_media_hosts)
        self._access = Access(hosts=hosts, private_hosts=private)
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="media")

    async def read(self, given: GivenMedia, info: ModelInfo) -> EncodedMedia:
        """The files. ValueError for a kind that the model does not take, before anything is read, and for what cannot
        be had.
        """
        for kind in given.counts:
            if kind.value not in info.media:
                raise ValueError(f"messages.content: a part of type {PARTS[kind]!r}; {what_is_taken(info.media)}")
        if not given.counts:
            return EncodedMedia()
        return await asyncio.get_running_loop().run_in_executor(self._threads, given.encoded, self._access)

    def close(self) -> None:
        """Begin with no more. Does not wait for what is under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
