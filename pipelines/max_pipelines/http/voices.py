"""`/v1/audio/voices`: which there are; where the config lets clients, one more of a recording, or one less."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from max_interfaces import InvalidRequest, PipelineTask

from . import forms
from .face import Face
from .json import JsonResponse
from .origins import may_ask
from .problems import VALIDATION, HttpProblem, asked
from .uploads import Uploads

MAX_SAMPLE_BYTES = 10 * 2**20  # as vLLM-Omni has it
MAX_FORM_BYTES = MAX_SAMPLE_BYTES + 2**16
OFF = "voices cannot be added here; set `http.voice_uploads: true` in this server's config"


async def voices(request: Request) -> Response:
    """`GET`: all that the served models have; plain names with `?legacy=true`. `uploaded_voices` if more may come."""
    face = Face.of(request)
    speaking = [info for info in await face.models() if info.task == PipelineTask.AUDIO_GENERATION.value]
    names = sorted({voice for info in speaking for voice in info.voices})
    legacy = request.query_params.get("legacy", "false")
    if legacy not in ("true", "false"):
        raise InvalidRequest(f"legacy = {legacy!r:.80}: must be true or false")
    listed = names if legacy == "true" else [{"id": name, "name": name} for name in names]
    uploaded = {} if face.uploads is None else {"uploaded_voices": await asyncio.to_thread(face.uploads.described)}
    return JsonResponse({"voices": listed, **uploaded})


async def add(request: Request) -> Response:
    """`POST` of a form, as vLLM-Omni has it: audio_sample, name, consent, ref_text. HttpProblem 422 for what cannot be
    used, 409 for a name that is taken, 403 for pages of other sites, 501 if none may be added.
    """
    face = Face.of(request)
    if not may_ask(request, face.config.cors_origins):
        raise HttpProblem(
            403, VALIDATION, f"origin {request.headers['origin']!r:.100}: pages of other sites may not do this"
        )
    form = await forms.read(request, MAX_FORM_BYTES, face.config.body_timeout_s)
    missing = [name for name in ("audio_sample", "name", "consent", "ref_text") if not _given(form, name)]
    if missing:
        raise HttpProblem(
            422, VALIDATION, f"{missing[0]}: is missing; a voice needs its sample, name, consent and words"
        )
    if len(form["audio_sample"].data) > MAX_SAMPLE_BYTES:
        raise HttpProblem(413, VALIDATION, f"audio_sample: has more than {MAX_SAMPLE_BYTES} bytes")
    uploads = _uploads(face)
    name, words, consent = (form[field].text for field in ("name", "ref_text", "consent"))
    with asked():
        added = await uploads.add(name, form["audio_sample"].data, words, consent)
    return JsonResponse({"success": True, "voice": added})


async def remove(request: Request) -> Response:
    """`DELETE` of a voice that was added. HttpProblem 404 if there is none of that name, 501 if none may be removed."""
    face = Face.of(request)
    name = str(request.path_params["name"])
    uploads = _uploads(face)
    with asked():
        await asyncio.to_thread(uploads.remove, name)
    return JsonResponse({"success": True, "message": f"{name} is removed"})


def _given(form: dict[str, forms.Field], name: str) -> bool:
    return name in form and bool(form[name].data.strip())


def _uploads(face: Face) -> Uploads:
    if face.uploads is None:
        raise HttpProblem(501, "not_enabled", OFF)
    return face.uploads
