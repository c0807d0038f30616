"""The verbs as programs call them: arguments checked by the library's rules, then a conversation.

Both clients have these; what is left to each is to have the conversations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import durable_streams.arguments as arguments  # noqa: PLR0402 - not from the root, which knows us
from durable_streams.client import inspecting, reading
from durable_streams.client.following import Following, LiveMode
from durable_streams.client.pieces import NOW, Place
from durable_streams.client.producing import Limits, Producing
from durable_streams.client.verbs import Fork
from durable_streams.model.commands import Append, Create, ProducerClaim
from durable_streams.model.errors import ContentTypeMismatch, InvalidRequest
from durable_streams.outcomes import JsonResult
from durable_streams.rules.media_type import JSON

if TYPE_CHECKING:
    from datetime import datetime

    from durable_streams.client.reading import Piece
    from durable_streams.client.steps import Conversation
    from durable_streams.client.verbs import Verbs
    from durable_streams.details import Details
    from durable_streams.history import RecordsResult
    from durable_streams.listing import ListPage
    from durable_streams.model.paths import StreamPath
    from durable_streams.outcomes import AppendResult, Metadata

BEGINNING: Final = "-1"


class Asking:
    """What may be asked of one server; see :class:`~durable_streams.Streams` for each verb."""

    def __init__(self, verbs: Verbs, mode: LiveMode, answer_bytes: int) -> None:
        self.verbs = verbs
        self._mode = mode
        self._answer_bytes = answer_bytes

    def create(
        self,
        path: str,
        *,
        content_type: str | None,
        data: object,
        ttl_s: int | None,
        expires_at: datetime | str | None,
        closed: bool,
    ) -> Conversation[Metadata]:
        """Create a stream."""
        command = Create(
            arguments.path("path", path),
            _content_type(content_type),
            arguments.lifetime(ttl_s, expires_at),
            arguments.flag("closed", closed),
        )
        return self.verbs.create(command, arguments.data(data))

    def fork(
        self,
        path: str,
        source: str,
        *,
        offset: str | None,
        sub_offset: int,
        ttl_s: int | None,
        expires_at: datetime | str | None,
    ) -> Conversation[Metadata]:
        """Create a stream that begins with another's content."""
        at, source_path = arguments.path("path", path), arguments.path("source", source)
        place = None if offset is None else _place("offset", offset)
        behind = arguments.count("sub_offset", sub_offset)
        if behind and place is None:
            raise InvalidRequest("sub_offset counts from an offset: give that as well")
        fork = Fork(source_path, None, 0)
        if place is not None:
            fork = Fork(source_path, place.offset, place.skip + behind)
        command = Create(at, lifetime=arguments.lifetime(ttl_s, expires_at))
        return self.verbs.create(command, b"", fork)

    def append(
        self,
        path: str,
        data: object,
        *,
        content_type: str | None = None,
        close: bool = False,
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
    ) -> Conversation[AppendResult]:
        """Append bytes, and close the stream perhaps."""
        body = arguments.data(data)
        command = Append(
            arguments.path("path", path),
            _content_type(content_type),
            arguments.flag("close", close),
            arguments.producer(producer),
            arguments.stream_seq(stream_seq),
        )
        if not body and not command.close:
            raise InvalidRequest("an append needs data, unless it closes the stream")
        return self.verbs.append(command, body)

    def append_json(
        self,
        path: str,
        *values: object,
        close: bool,
        producer: ProducerClaim | None,
        stream_seq: str | None,
    ) -> Conversation[AppendResult]:
        """Append values as messages of JSON."""
        body = arguments.json_messages("values", values)
        return self.append(
            path, body, content_type=JSON, close=close, producer=producer, stream_seq=stream_seq
        )

    def delete(self, path: str) -> Conversation[None]:
        """Delete a stream."""
        return self.verbs.delete(arguments.path("path", path))

    def get_metadata(self, path: str) -> Conversation[Metadata]:
        """What is known of a stream."""
        return self.verbs.head(arguments.path("path", path))

    def list_page(self, prefix: str, *, after: str, limit: int) -> Conversation[ListPage]:
        """One page of the list of streams."""
        return inspecting.list_page(
            self.verbs,
            arguments.prefix("prefix", prefix),
            arguments.prefix("after", after),
            arguments.page_size("limit", limit),
        )

    def details(self, path: str) -> Conversation[Details]:
        """All that is known of a stream."""
        return inspecting.details(self.verbs, arguments.path("path", path))

    def records(
        self,
        path: str,
        offset: str | None,
        *,
        since: datetime | str | None,
        last: int | None,
        limit: int | None,
    ) -> Conversation[RecordsResult]:
        """What was appended, and when."""
        at = arguments.path("path", path)
        _, most = arguments.records(offset, since, last, limit)
        place: tuple[str, str] | None = None
        if offset is not None:
            place = "offset", offset
        elif since is not None:
            place = "since", since if isinstance(since, str) else since.isoformat()
        elif last is not None:
            place = "last", str(arguments.count("last", last))
        return inspecting.records(self.verbs, at, place, most)

    def read(self, path: str, offset: str, *, live: bool, timeout_s: float) -> Conversation[Piece]:
        """A piece of a stream."""
        return reading.read(
            self.verbs,
            arguments.path("path", path),
            _place("offset", offset),
            live=arguments.flag("live", live),
            timeout_s=arguments.seconds("timeout_s", timeout_s),
        )

    def read_json(
        self, path: str, offset: str, *, live: bool, timeout_s: float
    ) -> Conversation[JsonResult]:
        """A piece of a stream of JSON, as values."""
        piece = yield from self.read(path, offset, live=live, timeout_s=timeout_s)
        if not piece.is_json:
            raise ContentTypeMismatch(piece.content_type, JSON)
        return JsonResult(piece.values(), piece.next_offset, piece.up_to_date, piece.closed)

    def producer(
        self,
        path: str,
        id: str,  # noqa: A002 - as in ProducerClaim
        *,
        epoch: int | None,
        number: int | None,
        take_over: bool,
        limits: Limits | None,
        now_ms: int,
    ) -> NewProducer:
        """A producer; see ``RemoteStreams.producer``."""
        if number is not None and take_over:
            raise InvalidRequest("give number or take_over: the number is that of one epoch")
        if epoch is None:
            epoch = now_ms if number is None else 0
        epoch = arguments.count("epoch", epoch)
        first = 0 if number is None else arguments.count("number", number)
        claim = arguments.producer(ProducerClaim(id, epoch, first))
        assert claim is not None
        return NewProducer(
            self.verbs,
            arguments.path("path", path),
            claim,
            arguments.settings("limits", limits, Limits),
            number is not None,
            arguments.flag("take_over", take_over),
        )

    def tail(self, path: str, offset: str, *, live: bool) -> Following:
        """A reader of a stream."""
        at, place = arguments.path("path", path), _place("offset", offset)
        return Following(
            self.verbs,
            at,
            place,
            self._mode,
            live=arguments.flag("live", live),
            limit_bytes=self._answer_bytes,
        )


@dataclass(frozen=True, slots=True)
class NewProducer:
    """A producer that has not begun."""

    verbs: Verbs
    path: StreamPath
    claim: ProducerClaim
    limits: Limits
    numbered: bool
    take_over: bool

    def begin(self) -> Conversation[Producing]:
        """Look which type the stream has, as that decides how appends are put together."""
        found = yield from self.verbs.head(self.path)
        return Producing(
            self.verbs,
            self.path,
            found.content_type,
            self.claim,
            self.limits,
            numbered=self.numbered,
            take_over=self.take_over,
        )


def _content_type(given: str | None) -> str | None:
    """What is sent as it is given, if it is one; which ones are the same is for the server."""
    return None if arguments.content_type(given) is None else given


def _place(name: str, offset: object) -> Place:
    try:
        return Place.parse(arguments.text(name, offset))
    except InvalidRequest as error:
        raise type(error)(f"{name}: {error}") from None


__all__ = ["BEGINNING", "NOW", "Asking"]
