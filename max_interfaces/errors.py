"""Every exception of maxpipe, each leaf named by what failed.

    MaxpipeError
    ├── RequestFailed        a request ended in failure; `.failure` says of which kind and why
    ├── InvalidRequest       what cannot be asked for, as a voice that there is not (also a ValueError)
    ├── ConfigError          a YAML file, a model folder or a device that cannot be used (also a ValueError)
    ├── AdapterRefused       an adapter that cannot be loaded or unloaded; `.status` says why (also a ValueError)
    ├── WireError            bytes that are no message of ours (also a ValueError)
    ├── StartFailed          a server or worker that did not become ready
    ├── DeviceLost           a device that no step will succeed on any more: the worker ends, another goes on
    └── NotServing           nothing answers at the address

Constructors of requests raise plain ValueError, as dataclasses of the standard library do.
"""

from __future__ import annotations

from .lora import LoRAStatus
from .status import Failure


class MaxpipeError(Exception):
    """The root."""


class RequestFailed(MaxpipeError):
    """A request ended in failure. Branch on `failure.kind`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.kind.value}: {failure.message}")
        self.failure = failure


class InvalidRequest(MaxpipeError, ValueError):
    """What was asked for cannot be had, whoever is asked: says the field, what it was and what it must be."""


class ConfigError(MaxpipeError, ValueError):
    """A configuration that cannot be used: says the file, the key's path and what to do."""


class AdapterRefused(MaxpipeError, ValueError):
    """An adapter that cannot be loaded or unloaded. Branch on `status`."""

    def __init__(self, status: LoRAStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class WireError(MaxpipeError, ValueError):
    """Bytes that are no message of this protocol version."""


class StartFailed(MaxpipeError):
    """A server or worker did not become ready; the message holds its last words."""


class DeviceLost(MaxpipeError):
    """The device has failed for good, as after an illegal access of its memory; only a new process can use it."""


class NotServing(MaxpipeError):
    """Nothing answers at the address."""
