"""Finding a codec's files: in a folder, or on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from max_interfaces.errors import ConfigError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
ENCODER = "encoder.safetensors"
ALIGNER = "aligner.safetensors"
PUBLISHED = "pytorch_model.bin"  # how the snac models are published; `convert` reads it
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, slots=True)
class CodecFiles:
    """A codec's files. Another that lies `beside` them is fetched when it is asked for: not everybody needs it.

    In a folder it may be missing; ConfigError if the hub has none, or is away.
    """

    config: Path
    weights: Path
    beside: Callable[[str], Path]


def locate(source: str | Path, *, cache: Path | None = None, offline: bool = False) -> CodecFiles:
    """The files of `source`, a folder or a hub id such as `hubertsiuzdak/snac_24khz`. ConfigError if there are none.

    `cache` is the hub's cache folder (None: its own choice); `offline` takes nothing that is not in it.
    """
    folder = Path(source)
    if folder.is_dir():
        return _in_folder(folder)
    if isinstance(source, str) and _HUB_ID.fullmatch(source):
        return _on_hub(source, cache, offline)
    raise ConfigError(f"{source}: there is no such folder, and it is no hub id of the form owner/name")


def _in_folder(folder: Path) -> CodecFiles:
    config = folder / CONFIG
    if not config.is_file():
        raise ConfigError(f"{folder}: holds no {CONFIG}, so it is no codec folder")
    found = sorted(path for path in folder.glob("*.safetensors") if path.name not in (ENCODER, ALIGNER))
    named = [folder / name for name in (WEIGHTS, PUBLISHED) if (folder / name).is_file()]
    if len(found) == 1 and folder / WEIGHTS not in named:
        named = found
    if not named:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(f"{folder}: wants {WEIGHTS} or one other .safetensors file; found: {names}")
    return CodecFiles(config, named[0], folder.joinpath)


def _on_hub(source: str, cache: Path | None, offline: bool) -> CodecFiles:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    def download(name: str) -> Path:
        return Path(hf_hub_download(source, name, cache_dir=cache, local_files_only=offline))

    @contextlib.contextmanager
    def told(what: str) -> Iterator[None]:
        try:
            yield
        except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ConfigError(f"{source}: {what}: {reason}") from error

    def beside(name: str) -> Path:
        with told(f"its {name} cannot be had from the hub"):
            return download(name)

    with told("neither a folder here nor a codec on the hub"):
        config = download(CONFIG)
        try:
            weights = download(WEIGHTS)
        except EntryNotFoundError:
            weights = download(PUBLISHED)
    return CodecFiles(config, weights, beside)
