"""Where clients of other protocols find it: HTTP and Wyoming."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from max_interfaces.bounds import Name

from .section import Names, Path_, Section


class TextLimits(Section, frozen=True):
    """What one request over the text-generation API may ask for, and how long its answers are kept.

    Answers that are deterministic are kept in `cache_bytes` of memory, 0 for none, and for `cache_age_s`. Who asks to
    wait for a model that is loading waits for `wait_for_model_s` at most.
    """

    max_best_of: Annotated[int, Meta(ge=1, le=256)] = 8
    max_stop_sequences: Annotated[int, Meta(ge=0, le=64)] = 16
    max_top_n_tokens: Annotated[int, Meta(ge=0, le=1024)] = 20
    cache_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 2**26
    cache_age_s: Annotated[float, Meta(gt=0, le=86_400)] = 3600.0
    wait_for_model_s: Annotated[float, Meta(ge=0, le=3600)] = 300.0


class HttpConfig(Section, frozen=True):
    """The HTTP face: where it listens, whom it serves, and within what limits.

    `keys` is a file with an API key a line; with it, nobody is served without one of them. Browsers on pages of
    `cors_origins` may ask, and none on others. A server that asks for no keys and listens on this host alone answers
    to this host's own names and to `hosts`, so that no other site's page can pass for it; given `hosts`, so does any.
    With `voice_uploads` whoever may ask may add voices, and remove those that were added: use it with `keys`.
    URLs of images are fetched from `media_hosts` alone ("host" or "host:port"), at public addresses, and from
    `private_media_hosts` at any; without them none is.

    A body has at most `max_body_bytes` and comes within `body_timeout_s`; more than `max_connections` at once are
    refused. What a client names of `model_aliases` and `voice_aliases` means the one model that is served, and its
    first voice: so that clients of a hosted service need no other change. `log` is how standard error tells of each
    request; `traces` is the URL of an OpenTelemetry collector (OTLP over HTTP) that is sent a span of each.
    """

    host: Annotated[str, Meta(min_length=1, max_length=256)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    keys: Path_ | None = None
    cors_origins: Names = ()
    hosts: Names = ()
    max_body_bytes: Annotated[int, Meta(ge=1, le=2**30)] = 2_000_000
    body_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    max_connections: Annotated[int, Meta(ge=1, le=2**20)] = 1024
    log: Literal["text", "json", "none"] = "text"
    traces: Annotated[str, Meta(pattern=r"^https?://[^\s/?#@]+(/[^\s?#]*)?$", max_length=2048)] | None = None
    model_aliases: Names = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts", "tgi", "dummy")
    voice_aliases: Names = (
        "alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer", "verse", "marin", "cedar"
    )  # fmt: skip
    text: TextLimits = TextLimits()
    media_hosts: Names = ()
    private_media_hosts: Names = ()
    voice_uploads: bool = False


class WyomingConfig(Section, frozen=True):
    """Speech for Home Assistant, by the Wyoming protocol: where it listens, and within what limits. It knows no keys.

    `languages` are those that the voices are said to speak. A text, however many pieces it comes in, and whatever an
    event says, has at most `max_text_bytes`; an event that has begun is complete within `event_timeout_s`; more than
    `max_connections` at once are refused.
    """

    host: Annotated[str, Meta(min_length=1, max_length=256)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 10_200
    languages: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=64)] = ("en",)
    max_text_bytes: Annotated[int, Meta(ge=1024, le=2**24)] = 2**18
    event_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 10.0
    max_connections: Annotated[int, Meta(ge=1, le=2**16)] = 64
