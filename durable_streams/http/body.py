"""Reading request bodies: whole, within a size and within a time.

The limit is checked against ``Content-Length`` before anything is read, and against what has
come while a chunked body is read.  A client may be slow, but not without end: it has
``timeout_s``, and one second more for every ``SLOWEST_BYTES_PER_S`` it has sent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import RequestPayloadError

from durable_streams.errors import InvalidRequest, PayloadTooLarge, RequestTimeout
from durable_streams.http.sending import send_continue
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from aiohttp import web

SLOWEST_BYTES_PER_S: Final = 16 * KIB
"""Below what any network of today carries; it only stops those who send a byte now and then."""


async def read_body(request: web.BaseRequest, limit_bytes: int, timeout_s: float) -> bytes:
    """Return the body of a request.

    Raises :class:`PayloadTooLarge`, :class:`RequestTimeout`, :class:`InvalidRequest` if its
    framing is broken, and :class:`ConnectionError` if the client goes away.
    """
    length_bytes = request.content_length
    if length_bytes is not None and length_bytes > limit_bytes:
        raise PayloadTooLarge(limit_bytes)
    content = request.content
    try:
        if not content.is_eof():
            return await _receive(request, limit_bytes, timeout_s)
        body = content.read_nowait()
    except (RequestPayloadError, HttpProcessingError) as error:
        raise InvalidRequest(f"the body is malformed: {_first_line(error)}") from None
    if len(body) > limit_bytes:
        raise PayloadTooLarge(limit_bytes)
    return body


async def _receive(request: web.BaseRequest, limit_bytes: int, timeout_s: float) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= (1, 1):
        send_continue(request)
    content = request.content
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    pieces: list[bytes] = []
    size_bytes = 0
    try:
        async with asyncio.timeout(timeout_s) as patience:
            while True:
                if request.transport is None:
                    raise ConnectionResetError("the client went away while sending a body")
                piece = await content.readany()
                if not piece:
                    break
                pieces.append(piece)
                size_bytes += len(piece)
                if size_bytes > limit_bytes:
                    raise PayloadTooLarge(limit_bytes)
                patience.reschedule(begin_s + timeout_s + size_bytes / SLOWEST_BYTES_PER_S)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {timeout_s:g} s") from None
    return b"".join(pieces)


def _first_line(error: Exception) -> str:
    """The parser's message without the bytes it quotes below."""
    lines = str(getattr(error, "message", None) or error).strip().splitlines()
    return lines[0].rstrip(":") if lines else "cut off"
