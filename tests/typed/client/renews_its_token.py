"""A client whose token ends now and then, and whose requests say where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from durable_streams import Metadata, RemoteStreams, connect

if TYPE_CHECKING:
    from collections.abc import Callable


async def token() -> str:
    return "from somewhere"


def client(url: str) -> RemoteStreams:
    headers: dict[str, str | Callable[[], str]] = {
        "X-Team": "billing",
        "X-Request-Id": lambda: str(uuid4()),
    }
    # by mistake: `return connect(url, token=5, headers=headers)`
    return connect(url, token=token, headers=headers)


async def type_of(url: str) -> str:
    async with client(url) as streams:
        found: Metadata = await streams.get_metadata("a")
    return found.content_type
