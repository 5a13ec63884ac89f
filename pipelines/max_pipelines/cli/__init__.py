"""The command line. Each command is a module with `add_arguments` and `run`; none loads torch into this process."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib.metadata import version
from typing import NoReturn, Protocol

from max_interfaces import MaxpipeError

from . import adapters, bench, config, embed, generate, keys, serve, soak, speak, voices, worker


class Command(Protocol):
    """A module of this package."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""
        ...

    def run(self, options: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


COMMANDS: dict[str, Command] = {
    "speak": speak,
    "generate": generate,
    "embed": embed,
    "serve": serve,
    "worker": worker,
    "voices": voices,
    "config": config,
    "keys": keys,
    "adapters": adapters,
    "bench": bench,
    "soak": soak,
}
FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns the exit code: 0, 1 for what went wrong on the way, 2 for what was asked wrongly."""
    parser = argparse.ArgumentParser(prog="maxpipe", description="Typed requests in, streamed speech and text out.")
    parser.add_argument("--version", action="version", version=f"maxpipe {version('maxpipe')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").strip().partition("\n")[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    options = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # else it would end us without tidying up
            signal.signal(number, _terminate)
    try:
        code = COMMANDS[options.command].run(options)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where it can still be said that it cannot be written
        return code
    except (ValueError, OSError, MaxpipeError) as problem:
        _drop_unwritable()
        if isinstance(problem, BrokenPipeError):  # whoever read our output has heard enough
            return FAILED
        print(f"maxpipe {options.command}: {_one_line(problem)}", file=sys.stderr)
        return USAGE if isinstance(problem, ValueError) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _drop_unwritable() -> None:
    """What cannot be written now is not tried again at the interpreter's end, which would complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _terminate(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _one_line(problem: Exception) -> str:
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"{problem.filename}: {problem.strerror}"
    return " ".join(str(problem).split())
