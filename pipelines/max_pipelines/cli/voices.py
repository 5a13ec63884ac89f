"""List the voices of a model, add one from a recording, or remove it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from max_interfaces import ConfigError

from ..config import Config
from ..voices.folder import VoiceFolder, folder_of
from . import connecting

Action = Callable[[Config, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `voices`, and their options; without one it lists."""
    _add_config(parser, None)
    parser.set_defaults(do=_list)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for name, (action, summary) in ACTIONS.items():
        its_parser = actions.add_parser(name, help=summary, description=summary)
        its_parser.set_defaults(do=action)
        if name != "list":
            its_parser.add_argument("name", metavar="NAME", help="what requests call it: ASCII letters, digits, -, _")
        if name == "add":
            its_parser.add_argument("sample", metavar="SAMPLE", help="a recording of 1 to 30 s of somebody who speaks")
            its_parser.add_argument("transcript", metavar="TRANSCRIPT", help="what the recording says, word for word")
            its_parser.add_argument("--consent", default="", metavar="TEXT", help="a note of who has agreed to this")
        _add_config(its_parser, argparse.SUPPRESS)


def _add_config(parser: argparse.ArgumentParser, default: str | None) -> None:
    parser.add_argument("--config", metavar="FILE", default=default, help="the model's YAML file (default: built in)")


def run(options: argparse.Namespace) -> int:
    """Do what was asked. No server is needed, and those that run see the change."""
    config = connecting.chosen_config(options.config)
    if config.speech is None:
        raise ConfigError(f"{options.config}: {config.model.name} does not speak; it has no section `speech`")
    action: Action = options.do
    action(config, options)
    return 0


def _list(config: Config, _: argparse.Namespace) -> None:
    """One voice a line, the model's own first, of those the default. Nothing is loaded."""
    folder = folder_of(config)
    own = config.speech.spoken.layout.prompt.names if config.speech is not None else ()
    for name in (*own, *folder.names):
        print(name)
    _tell_of_others(folder)


def _tell_of_others(folder: VoiceFolder) -> None:
    others = sorted(set(folder.all) - set(folder.names))
    if others:
        print(f"maxpipe voices: of another model's codec, or unreadable: {', '.join(others)}", file=sys.stderr)


def _add(config: Config, options: argparse.Namespace) -> None:
    from ..media.access import Access  # the one command that loads torch, for the codec's encoder
    from ..voices.adding import add_voice

    sample, access = Path(options.sample), Access(paths=True)
    print(add_voice(config, options.name, sample, options.transcript, access, options.consent))


def _remove(config: Config, options: argparse.Namespace) -> None:
    folder_of(config).remove(options.name)


ACTIONS: dict[str, tuple[Action, str]] = {
    "list": (_list, "print one voice a line, the default first"),
    "add": (_add, "make a voice of a recording, and print its file"),
    "remove": (_remove, "delete a voice that was added"),
}
