"""The verbs of a server's streams, whoever has the conversations: the documented ones, with types.

In an event loop (``aio``) having one waits; in a thread (``sync_remote``) it blocks, and never
waits, so that a verb is over in one step.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.client.asking import BEGINNING, Asking
from durable_streams.client.verbs import Verbs
from durable_streams.rules.list_pages import DEFAULT_LISTED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from durable_streams.client.options import Options
    from durable_streams.client.steps import Conversation
    from durable_streams.details import Details
    from durable_streams.history import RecordsResult
    from durable_streams.listing import ListedStream, ListPage
    from durable_streams.model.commands import ProducerClaim
    from durable_streams.outcomes import (
        AppendResult,
        JsonResult,
        MessagesResult,
        Metadata,
        ReadResult,
    )

Data = bytes | bytearray | memoryview

_T = TypeVar("_T")


class RemoteVerbs:
    """The verbs of :class:`~durable_streams.Streams`, of the streams of a server."""

    def __init__(self, options: Options) -> None:
        verbs = Verbs(options.address, options.retries, monotonic, random.random)
        self.asking: Final = Asking(verbs, options.live, options.answer_bytes)

    async def _ask(self, conversation: Conversation[_T]) -> _T:
        raise NotImplementedError

    async def create(
        self,
        path: str,
        *,
        content_type: str | None = None,
        data: Data = b"",
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
        closed: bool = False,
    ) -> Metadata:
        """Create a stream, or find that the same one exists (``created`` is False then).

        It may also be False if a first attempt did it, whose answer was lost.
        """
        return await self._ask(
            self.asking.create(
                path,
                content_type=content_type,
                data=data,
                ttl_s=ttl_s,
                expires_at=expires_at,
                closed=closed,
            )
        )

    async def fork(
        self,
        path: str,
        source: str,
        *,
        offset: str | None = None,
        sub_offset: int = 0,
        ttl_s: int | None = None,
        expires_at: datetime | str | None = None,
    ) -> Metadata:
        """Create a stream that begins with another's content up to ``offset`` (None: its tail)."""
        return await self._ask(
            self.asking.fork(
                path,
                source,
                offset=offset,
                sub_offset=sub_offset,
                ttl_s=ttl_s,
                expires_at=expires_at,
            )
        )

    async def append(
        self,
        path: str,
        data: Data,
        *,
        content_type: str | None = None,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append bytes (for JSON streams: a value, or an array of values); durable on return.

        Without ``content_type`` the stream is asked for its own first.  Without ``producer`` it is
        not repeated if it may have been stored: ``Unreachable`` is raised, and nobody knows.
        """
        return await self._ask(
            self.asking.append(
                path,
                data,
                content_type=content_type,
                close=close,
                producer=producer,
                stream_seq=stream_seq,
            )
        )

    async def append_json(
        self,
        path: str,
        *values: object,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> AppendResult:
        """Append values to a stream of JSON, each as one message, together; durable on return."""
        return await self._ask(
            self.asking.append_json(
                path, *values, close=close, producer=producer, stream_seq=stream_seq
            )
        )

    async def close(self, path: str, data: Data = b"") -> AppendResult:
        """Close a stream, perhaps with last bytes; closing again changes nothing."""
        return await self._ask(self.asking.append(path, data, close=True))

    async def delete(self, path: str) -> None:
        """Delete a stream and its data, for good on return."""
        await self._ask(self.asking.delete(path))

    async def get_metadata(self, path: str) -> Metadata:
        """The stream's metadata; does not count as a use.  ``created_ms`` is 0: nobody tells."""
        return await self._ask(self.asking.get_metadata(path))

    async def list_page(
        self, prefix: str = "", *, after: str = "", limit: int = DEFAULT_LISTED
    ) -> ListPage:
        """One page of :meth:`list`, and what the next one begins behind."""
        return await self._ask(self.asking.list_page(prefix, after=after, limit=limit))

    def list(
        self, prefix: str = "", *, after: str = "", page_size: int = DEFAULT_LISTED
    ) -> AsyncIterator[ListedStream]:
        """All streams at and below a prefix, in the order of their paths, that may be seen."""
        return self._each_listed(prefix, after, page_size)

    async def _each_listed(
        self, prefix: str, after: str, limit: int
    ) -> AsyncIterator[ListedStream]:
        following: str | None = after
        while following is not None:
            page = await self.list_page(prefix, after=following, limit=limit)
            for stream in page.streams:
                yield stream
            following = page.next

    async def details(self, path: str) -> Details:
        """All that is known of a stream: what lists say, and how it is kept, written and read."""
        return await self._ask(self.asking.details(path))

    async def records(
        self,
        path: str,
        offset: str | None = None,
        *,
        since: datetime | str | None = None,
        last: int | None = None,
        limit: int | None = None,
    ) -> RecordsResult:
        """What was appended, and when: one record for each append, or message of a JSON stream."""
        return await self._ask(
            self.asking.records(path, offset, since=since, last=last, limit=limit)
        )

    async def read(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> ReadResult:
        """Read a piece from an offset (``"-1"``: the beginning, ``"now"``: the tail)."""
        read = self.asking.read(path, offset, live=live, timeout_s=timeout_s)
        return (await self._ask(read)).read_result()

    async def read_messages(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> MessagesResult:
        """Like :meth:`read`, in messages; of what is no JSON, pieces of one or more appends."""
        read = self.asking.read(path, offset, live=live, timeout_s=timeout_s)
        return (await self._ask(read)).messages_result()

    async def read_json(
        self,
        path: str,
        offset: str = BEGINNING,
        *,
        live: bool = False,
        timeout_s: float = 30.0,
    ) -> JsonResult:
        """Like :meth:`read_messages`, with the values that the messages stand for."""
        return await self._ask(self.asking.read_json(path, offset, live=live, timeout_s=timeout_s))
