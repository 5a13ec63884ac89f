"""A body that is a form with files: multipart/form-data (RFC 7578), whole and within limits."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser

from starlette.requests import Request

from . import bodies
from .problems import VALIDATION, HttpProblem

MAX_FIELDS = 16
MAX_HEAD = 4096  # bytes of one part's headers
MIME = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Field:
    """What was given of one name: its bytes, and the type that a file is said to have."""

    data: bytes
    mime: str = "text/plain"

    @property
    def text(self) -> str:
        """As a text. HttpProblem 422 if it is none."""
        try:
            return self.data.decode()
        except UnicodeDecodeError:
            raise HttpProblem(422, VALIDATION, "a field that should be text is not UTF-8") from None


async def read(request: Request, max_bytes: int, timeout_s: float) -> dict[str, Field]:
    """The fields by their names. HttpProblem as `bodies.read`, with 422 for what is no form."""
    kind = Message()
    kind["content-type"] = request.headers.get("content-type", "none")
    boundary = kind.get_boundary()
    if kind.get_content_type() != MIME or not boundary:
        raise HttpProblem(415, VALIDATION, f"content-type: send the body as {MIME}, with its boundary")
    return parse(await bodies.received(request, max_bytes, timeout_s), boundary.encode())


def parse(body: bytes, boundary: bytes) -> dict[str, Field]:
    """The fields of a form. HttpProblem 422 for what is none, or has too many."""
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_FIELDS + 1)
    if not parts or not parts[-1].startswith(b"--"):
        raise HttpProblem(422, VALIDATION, f"the form does not end, or has more than {MAX_FIELDS} fields")
    fields: dict[str, Field] = {}
    for part in parts[:-1]:
        head, _, data = part.partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head.lstrip()[:MAX_HEAD])
        name = headers.get_param("name", header="content-disposition")
        if not isinstance(name, str) or name in fields:
            raise HttpProblem(422, VALIDATION, "each part of the form must have a name of its own")
        fields[name] = Field(data, headers.get_content_type())
    return fields
