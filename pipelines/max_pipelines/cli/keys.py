"""Keys for serving other hosts: make one, show it, and say whose keys this server lets in."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..security.allowed import Role
from ..security.folder import KeyFolder
from ..security.keys import PublicKey
from .connecting import add_keys

Action = Callable[[KeyFolder, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `keys`, and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (action, summary) in ACTIONS.items():
        its_parser = actions.add_parser(name, help=summary, description=summary)
        its_parser.set_defaults(do=action)
        add_keys(its_parser)
        if name == "allow":
            its_parser.add_argument("key", metavar="KEY", help="what `maxpipe keys show` prints there")
            its_parser.add_argument("--worker", action="store_true", help="it may serve requests, not only send them")
        if name in ("allow", "revoke"):
            its_parser.add_argument("name", metavar="NAME", help="what its owner is called on our list")


def run(options: argparse.Namespace) -> int:
    """Do what was asked with the folder that was named."""
    action: Action = options.do
    action(KeyFolder(options.keys), options)
    return 0


def _new(folder: KeyFolder, _: argparse.Namespace) -> None:
    print(folder.create().public.text)


def _show(folder: KeyFolder, _: argparse.Namespace) -> None:
    print(folder.load().public.text)


def _allow(folder: KeyFolder, options: argparse.Namespace) -> None:
    role = Role.WORKER if options.worker else Role.CLIENT
    folder.allow_list().allow(PublicKey.parse(options.key), role, options.name)


def _revoke(folder: KeyFolder, options: argparse.Namespace) -> None:
    folder.allow_list().revoke(options.name)


def _list(folder: KeyFolder, _: argparse.Namespace) -> None:
    for allowed in folder.allow_list().allowed():
        print(f"{allowed.key.text} {allowed.role.value} {allowed.name}")


ACTIONS: dict[str, tuple[Action, str]] = {
    "new": (_new, "make our key, and print its public half"),
    "show": (_show, "print our public key, for those who are to let us in"),
    "allow": (_allow, "let a key in, from now on"),
    "revoke": (_revoke, "let a key in no longer, also where it is connected now"),
    "list": (_list, "print the keys that are let in"),
}
