"""What `bench text` and its contenders' processes say to each other, a line of JSON each."""

from __future__ import annotations

from msgspec import Struct


class Setup(Struct, frozen=True):
    """What a contender loads, and for how much: the largest of all scenarios."""

    model: str  # a folder
    dtype: str
    device: str
    threads: int
    requests: int  # at once
    longest: int  # tokens of one request
    tokens: int  # of all requests at once


class Facts(Struct, frozen=True):
    """What a contender says of itself when it is ready."""

    version: str
    weight_bytes: int | None = None  # read for each step of decoding
    kv_token_bytes: int | None = None  # read for each token of context
    copy_bytes_per_s: float | None = None  # the device's measured bandwidth; CUDA only


class Job(Struct, frozen=True):
    """Prompts that arrive at once, token ids, and how many tokens each is to get."""

    prompts: list[list[int]]
    new_tokens: int


class Answer(Struct, frozen=True):
    """For each prompt, when each of its tokens came: seconds from the job's beginning."""

    arrivals: list[list[float]]
    device_bytes: int = 0  # in use on the CUDA device
