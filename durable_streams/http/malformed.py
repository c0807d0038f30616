"""What is wrong with a request that aiohttp's parser refused, by the limits that it was given."""

from __future__ import annotations

from typing import Final

from aiohttp.http_exceptions import LineTooLong

from durable_streams.http.aiohttp_private import is_of_too_many_headers
from durable_streams.http.bounded_parser import MAX_HEAD_BYTES, HeadTooLong
from durable_streams.model.errors import (
    HeadersTooLarge,
    InvalidRequest,
    StreamError,
    TargetTooLong,
)
from durable_streams.settings import KIB

MAX_TARGET_BYTES: Final = 8 * KIB
"""Of the request target: a path of 1024 bytes, every one of them escaped, and a query."""

MAX_HEADER_BYTES: Final = 16 * KIB
"""Of one header; no header of the protocol comes near, but tokens and cookies may.  The parser
tells a target that is too long from such a header only by the limit that it names."""

MAX_HEADERS: Final = 100


def parse_error(error: BaseException | None, message: str) -> StreamError:
    """Return what is wrong with a head that aiohttp's parser refused."""
    if isinstance(error, HeadTooLong):
        return HeadersTooLarge(f"the head of the request is longer than {MAX_HEAD_BYTES} bytes")
    if isinstance(error, LineTooLong):
        if error.args[1] == MAX_TARGET_BYTES:
            return TargetTooLong(f"the URL is longer than {MAX_TARGET_BYTES} bytes")
        return HeadersTooLarge(f"a header is longer than {MAX_HEADER_BYTES} bytes")
    if is_of_too_many_headers(error):
        return HeadersTooLarge(f"there are more than {MAX_HEADERS} headers")
    reason = message.strip().partition("\n")[0].rstrip(":")
    return InvalidRequest(f"not a valid HTTP request: {reason}")
