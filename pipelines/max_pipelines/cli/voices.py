"""List the voices of a model."""

from __future__ import annotations

import argparse

from max_interfaces import ConfigError

from . import connecting


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `voices`."""
    parser.add_argument("--config", metavar="FILE", help="the model's YAML file (default: built in)")


def run(options: argparse.Namespace) -> int:
    """Print one voice a line, the default first. Nothing is loaded."""
    config = connecting.chosen_config(options.config)
    if config.speech is None:
        raise ConfigError(f"{options.config}: {config.model.name} does not speak; it has no section `speech`")
    for voice in config.speech.spoken.layout.prompt.voices:
        print(voice.name)
    return 0
