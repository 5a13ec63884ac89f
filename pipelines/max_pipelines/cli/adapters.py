"""List, load and unload adapters of a running server."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from max_interfaces import AdapterRefused, LoRAResponse, LoRAStatus

from ..client import Client
from .connecting import add_keys

Action = Callable[[Client, argparse.Namespace], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The actions of `adapters`, and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (action, summary) in ACTIONS.items():
        its_parser = actions.add_parser(name, help=summary, description=summary)
        its_parser.set_defaults(do=action)
        if name != "list":
            its_parser.add_argument("name", metavar="NAME", help="what requests call it")
        if name == "load":
            its_parser.add_argument("path", metavar="PATH", help="its folder in the server's `engine.adapter_folder`")
        where = "the server, as `maxpipe serve` prints it"
        its_parser.add_argument("--connect", metavar="ADDRESS", required=True, help=where)
        its_parser.add_argument("--model", help="whose adapters (default: the only one's)")
        add_keys(its_parser)


def run(options: argparse.Namespace) -> int:
    """Do what was asked. AdapterRefused if the server does not."""
    action: Action = options.do
    with Client.connect(options.connect, options.keys) as client:
        action(client, options)
    return 0


def _list(client: Client, options: argparse.Namespace) -> None:
    for name in client.adapters(options.model):
        print(name)


def _load(client: Client, options: argparse.Namespace) -> None:
    _check(client.load_adapter(options.name, options.path, model=options.model))


def _unload(client: Client, options: argparse.Namespace) -> None:
    _check(client.unload_adapter(options.name, model=options.model))


def _check(response: LoRAResponse) -> None:
    if response.status is not LoRAStatus.SUCCESS:
        raise AdapterRefused(response.status, response.message or response.status.value)


ACTIONS: dict[str, tuple[Action, str]] = {
    "list": (_list, "print what requests may name, one a line"),
    "load": (_load, "have every worker load an adapter"),
    "unload": (_unload, "have every worker unload one, after the requests that run with it"),
}
