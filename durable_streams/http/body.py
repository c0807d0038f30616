"""Reading request bodies from aiohttp; how much, and for how long: see ``bodies``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from durable_streams.http.bodies import receive_body
from durable_streams.http.sending import send_continue
from durable_streams.model.errors import InvalidRequest, PayloadTooLarge

if TYPE_CHECKING:
    from aiohttp import web

    from durable_streams.http.bodies import BodyShare


async def read_body(
    request: web.BaseRequest, limit_bytes: int, timeout_s: float, share: BodyShare
) -> bytes:
    """Return the body of a request, which ``share`` then holds.

    Raises :class:`PayloadTooLarge`, :class:`RequestTimeout`, :class:`Overloaded`,
    :class:`InvalidRequest` if its framing is broken, and :class:`ConnectionError` if the client
    goes away.
    """
    length_bytes = request.content_length
    if length_bytes is not None and length_bytes > limit_bytes:
        raise PayloadTooLarge(limit_bytes)
    content = request.content

    async def next_piece() -> bytes:
        if request.transport is None:
            raise ConnectionResetError("the client went away while sending a body")
        try:
            return await content.readany()
        except (RequestPayloadError, HttpProcessingError) as error:  # some are timeouts, not ours
            raise _malformed(error) from None

    if not content.is_eof():
        if _waits_for_continue(request):
            send_continue(request)
        return await receive_body(next_piece, limit_bytes, timeout_s, share)
    try:
        body = content.read_nowait()
    except (RequestPayloadError, HttpProcessingError) as error:
        raise _malformed(error) from None
    if len(body) > limit_bytes:
        raise PayloadTooLarge(limit_bytes)
    share.grow(len(body))
    return body


def _waits_for_continue(request: web.BaseRequest) -> bool:
    expected = request.headers.get("Expect", "")
    return expected.lower() == "100-continue" and request.version >= (1, 1)


def _malformed(error: Exception) -> InvalidRequest:
    """The parser's message without the bytes it quotes below."""
    lines = str(getattr(error, "message", None) or error).strip().splitlines()
    first = lines[0].rstrip(":") if lines else "cut off"
    return InvalidRequest(f"the body is malformed: {first}")
