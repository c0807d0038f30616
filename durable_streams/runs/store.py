"""What runs need of streams: the same of a directory, a database and a server."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from durable_streams.model.errors import (
    DiskFull,
    NotOpen,
    StreamOutOfService,
    Unavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.listing import ListPage
    from durable_streams.messages import Message
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.outcomes import AppendResult, JsonResult, Metadata

_T = TypeVar("_T")

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0


class Following(Protocol):
    """The messages of a stream: ``Tail`` and ``RemoteTail``."""

    def __aiter__(self) -> Any: ...  # noqa: ANN401 - both give themselves

    async def __anext__(self) -> Message: ...

    async def aclose(self) -> None:
        """End it."""


class AnyStreams(Protocol):
    """Streams of a directory or a database (``open``), or of a server (``connect``)."""

    async def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        data: bytes = b"",
        ttl_s: int | None = None,
        closed: bool = False,
    ) -> Metadata:
        """As :meth:`.Streams.create`."""

    async def append(
        self,
        path: str,
        data: bytes,
        *,
        content_type: str | None = None,
        close: bool = False,
        producer: ProducerClaim | None = None,
    ) -> AppendResult:
        """As :meth:`.Streams.append`."""

    async def close(self, path: str, data: bytes = b"") -> AppendResult:
        """As :meth:`.Streams.close`."""

    async def delete(self, path: str) -> None:
        """As :meth:`.Streams.delete`."""

    async def get_metadata(self, path: str) -> Metadata:
        """As :meth:`.Streams.get_metadata`."""

    async def read_json(self, path: str, offset: str = "-1") -> JsonResult:
        """As :meth:`.Streams.read_json`."""

    async def list_page(self, prefix: str = "", *, after: str = "") -> ListPage:
        """As :meth:`.Streams.list_page`."""

    def tail(self, path: str, offset: str = "-1", *, live: bool = True) -> Following:
        """As :meth:`.Streams.tail`."""


def passes(error: Exception) -> bool:
    """Whether it is worth trying again: the store is away, behind or full."""
    if isinstance(error, NotOpen):
        return False
    return isinstance(error, (Unavailable, DiskFull, StreamOutOfService))


async def until_it_works(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What an attempt gives, which is repeated for as long as its error passes.

    So it has to be one that may be repeated: by a producer, or by what it does.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except Exception as error:
            if not passes(error):
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - not a secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def all_json(streams: AnyStreams, path: str) -> list[Any]:
    """All values of a stream of JSON, as it is now."""
    values: list[Any] = []
    offset = "-1"
    while True:
        found = await streams.read_json(path, offset)
        values += found.values
        if found.up_to_date:
            return values
        offset = found.next_offset
