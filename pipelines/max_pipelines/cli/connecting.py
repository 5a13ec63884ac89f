"""What `speak`, `generate`, `voices` and `bench` share: which server they talk to, and what they read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from ..client import AsyncClient
from ..config import Config, load_config, parse_config

SPEECH_CONFIG = "speech.yaml"
MODEL = "a folder, or a hub id, which is downloaded (default: the config's)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--connect` and `--config`, and `--keys` for a server on another host."""
    server = parser.add_mutually_exclusive_group()
    server.add_argument("--connect", metavar="ADDRESS", help="a running server, as `maxpipe serve` prints it")
    server.add_argument("--config", metavar="FILE", help="start a server of its own from this file (default: built in)")
    add_keys(parser)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """`--keys`, which counts for tcp:// addresses only."""
    parser.add_argument("--keys", metavar="FOLDER", help="our key for tcp:// (default: that of `maxpipe keys`)")


def client(options: argparse.Namespace) -> AsyncClient:
    """A client of the served address, or one with a server below it."""
    if options.connect is not None:
        return AsyncClient.connect(options.connect, options.keys)
    return AsyncClient.embedded(chosen_config(options.config))


def chosen_config(path: str | None) -> Config:
    """The config in a file, or the built-in one that speaks with the embedded voice."""
    return load_config(path or built_in(SPEECH_CONFIG))


def with_model(config: Config, path: str | None, device: str | None) -> Config:
    """A config with the model and device that were asked for. ConfigError."""
    changes = {"device": device}
    if path is not None:
        changes |= {"path": path, "name": Path(path).name or "model"}
    given = {name: value for name, value in changes.items() if value is not None}
    changed = msgspec.structs.replace(config, model=msgspec.structs.replace(config.model, **given))
    return parse_config(msgspec.yaml.encode(changed), "--model or --device")  # nothing was checked by `replace`


def built_in(name: str) -> Path:
    """A config that comes with maxpipe: in the installed package, or in the project's own folder."""
    package = Path(__file__).parents[1]
    installed = package / "configs" / name
    return installed if installed.exists() else package.parents[1] / "configs" / name


def standard_input() -> str:
    """The text on standard input, without the last line's end. ValueError if that is closed."""
    if sys.stdin is None:
        raise ValueError("the text is to be read from standard input, which is closed")
    return sys.stdin.read().removesuffix("\n")
