"""Reading a piece, and waiting for one, as conversations (protocol §5.6, §5.7)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from durable_streams.client.pieces import Place, json_messages, proved_start
from durable_streams.client.refusals import Asked
from durable_streams.client.steps import OutOfTime, Pause, Request
from durable_streams.client.verbs import next_offset
from durable_streams.messages import Message
from durable_streams.model.paths import path_text
from durable_streams.outcomes import MessagesResult, ReadResult
from durable_streams.rules.media_type import is_json, normalise

if TYPE_CHECKING:
    from durable_streams.client.steps import Answer, Conversation
    from durable_streams.client.verbs import Verbs
    from durable_streams.model.paths import StreamPath

LONG_POLL: Final = "long-poll"
_MAX_PIECE_WAIT_S: Final = 86_400.0
_SOON_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read: ``data`` as GET has it, from ``place``; ``start``: see :mod:`.pieces`."""

    data: bytes
    place: Place
    start: str | None
    next_offset: str
    up_to_date: bool
    closed: bool
    content_type: str
    cursor: str | None

    @property
    def is_json(self) -> bool:
        """Whether it is of a stream of JSON."""
        return is_json(self.content_type)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it."""
        return self.data.strip() == b"[]" if self.is_json else not self.data

    def messages(self) -> list[Message]:
        """Its messages; ``UnexpectedAnswer`` if it is no JSON, and should be."""
        if self.is_json:
            return json_messages(self.data, self.place, self.next_offset, self.start)
        return [Message(self.data, self.next_offset)] if self.data else []

    def values(self) -> list[Any]:
        """What its messages stand for, at once if that can be; else they say what is wrong."""
        try:
            found = json.loads(self.data)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list):
            return found[self.place.skip :]
        return [message.json() for message in self.messages()]

    def behind(self) -> Place:
        """Where to read on: what was to be skipped and did not come yet is skipped there."""
        skip = self.place.skip
        if skip and self.is_json and not self.is_empty:
            whole = json_messages(self.data, Place(self.place.offset), self.next_offset, None)
            skip = max(0, skip - len(whole))
        return Place(self.next_offset, skip)

    def read_result(self) -> ReadResult:
        """The same in the words of the library."""
        data = self.data
        if self.place.skip and self.is_json:
            data = b"[" + b",".join(message.data for message in self.messages()) + b"]"
        return ReadResult(data, self.next_offset, self.up_to_date, self.closed)

    def messages_result(self) -> MessagesResult:
        """The same, taken apart."""
        return MessagesResult(self.messages(), self.next_offset, self.up_to_date, self.closed)


def piece_of(answer: Answer, place: Place, known_type: str = "") -> Piece:
    """What an answer of success to a read brought; ``known_type``: the stream's, if it has none."""
    said = answer.header("content-type") if answer.status == 200 else ""
    content_type = normalise(said) or said or known_type
    is_bare = answer.status != 200 or not answer.body.strip()
    return Piece(
        b"[]" if is_bare and is_json(content_type) else answer.body,
        place,
        proved_start(answer),
        next_offset(answer),
        answer.is_set("stream-up-to-date"),
        answer.is_set("stream-closed"),
        content_type,
        answer.header("stream-cursor") or None,
    )


def read_request(
    verbs: Verbs,
    path: StreamPath,
    offset: str,
    *,
    live: str | None = None,
    cursor: str | None = None,
    within_s: float | None = None,
) -> Request:
    """The GET of a piece, or of an event stream."""
    url = verbs.address.stream(path, offset=offset, live=live, cursor=cursor if live else None)
    return Request("GET", url, {}, within_s=within_s)


def read(
    verbs: Verbs, path: StreamPath, place: Place, *, live: bool, timeout_s: float
) -> Conversation[Piece]:
    """A piece from ``place``; if ``live``, one that is not empty, or after so many seconds."""
    asked = Asked("GET", path_text(path), offset=place.offset)
    answer = yield from verbs.ask(read_request(verbs, path, place.offset), asked)
    piece = piece_of(answer, place)
    until = verbs.now() + min(timeout_s, _MAX_PIECE_WAIT_S)
    while live and not piece.messages() and not piece.closed:
        left_s = until - verbs.now()
        if left_s <= 0 and (piece.up_to_date or piece.is_empty):
            break
        place = piece.behind()
        poll = read_request(
            verbs,
            path,
            place.offset,
            live=LONG_POLL if piece.up_to_date else None,
            cursor=piece.cursor,
            within_s=left_s if piece.up_to_date else None,
        )
        began_s = verbs.now()
        try:
            answer = yield from verbs.ask(poll, asked)
        except OutOfTime:
            break
        piece = piece_of(answer, place, piece.content_type)
        if piece.is_empty and not piece.closed and verbs.now() - began_s < _SOON_S:
            yield Pause(_SOON_S)  # whoever answers so at once is not asked without end
    return piece
