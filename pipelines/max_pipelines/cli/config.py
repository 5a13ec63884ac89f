"""Check a config file, or print the JSON Schema of all of them."""

from __future__ import annotations

import argparse
import json

from max_interfaces import ConfigError

from .. import engines, registry
from ..config import config_schema, load_config
from ..plugins import find_point


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `config`."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a YAML file to check")
    what.add_argument("--schema", action="store_true", help="print the JSON Schema")


def run(options: argparse.Namespace) -> int:
    """Check or print."""
    if options.schema:
        print(json.dumps(config_schema(), indent=2))
        return 0
    config = load_config(options.file)
    try:
        find_point("pipeline.kind", config.pipeline.kind, registry.BUILT_IN, registry.ENTRY_POINTS)
        find_point("engine.kind", config.engine.kind, engines.BUILT_IN, engines.ENTRY_POINTS)
    except ConfigError as problem:
        raise ConfigError(f"{options.file}: {problem}") from None
    print(f"{options.file}: fine; serves {config.model.name} with the pipeline {config.pipeline.kind}")
    return 0
