"""From a request body to the bytes that are stored."""

from __future__ import annotations

from typing import Final

from durable_streams.filestore.format.index import checksum
from durable_streams.filestore.streams.stream import NO_DATA, Payload
from durable_streams.model.errors import InvalidJson
from durable_streams.rules import json_mode

LARGE_BODY: Final = 64 * 1024
"""Bytes; parsing and checksumming more than this leaves the loop."""


def prepare(is_json: bool, body: bytes, *, allow_empty: bool = False) -> Payload:
    """The wire bytes of a body, and what the index says of them; :class:`InvalidJson`.

    ``is_json``: for a stream in JSON mode.
    ``allow_empty``: an empty JSON array is no data rather than an error (protocol section 9.1.3).
    """
    if not body:
        return NO_DATA
    if not is_json:
        return Payload(body, 1, checksum(body))
    data, messages = json_mode.to_wire(body, allow_empty=allow_empty)
    return Payload(data, messages, checksum(data))


def try_prepare(is_json: bool, body: bytes, *, allow_empty: bool = False) -> Payload | InvalidJson:
    """The same for work off the loop: the error is for later, other checks come first."""
    try:
        return prepare(is_json, body, allow_empty=allow_empty)
    except InvalidJson as error:
        return error
