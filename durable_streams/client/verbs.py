"""The verbs as conversations: what is asked, asked again if that is safe, and made of the answers.

An append without a producer is repeated only if it certainly did not arrive (no connection, 429),
unless :class:`~.retries.Retries` says otherwise: where nobody knows, a second one may store it
twice.  All others can be repeated: they change nothing, or nothing more the second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_streams.client import refusals
from durable_streams.client.refusals import Asked
from durable_streams.client.retries import ATTEMPTS_AT_500, NOTHING_DONE, PASSING, Backoff
from durable_streams.client.steps import Answer, Call, Disconnected, OutOfTime, Pause, Request
from durable_streams.model.errors import (
    ContentTypeMismatch,
    InvalidJson,
    InvalidRequest,
    SequenceConflict,
    SourceGone,
    StreamError,
    StreamExists,
    StreamNotFound,
    UnexpectedAnswer,
    Unreachable,
)
from durable_streams.model.paths import path_text
from durable_streams.outcomes import AppendResult, Metadata
from durable_streams.rules.json_mode import to_wire
from durable_streams.rules.media_type import is_json, normalise, same

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.client.address import Address
    from durable_streams.client.retries import Retries
    from durable_streams.client.steps import Conversation
    from durable_streams.model.commands import Append, Create
    from durable_streams.model.paths import StreamPath

_NO_CONTENT: Final = 204


@dataclass(frozen=True, slots=True)
class Fork:
    """What a stream is made of: another's content up to an offset, and so much behind it."""

    source: StreamPath
    offset: str | None
    sub_offset: int


@dataclass(frozen=True, slots=True)
class Verbs:
    """The verbs of one server; ``now`` and ``random`` are for the pauses between attempts."""

    address: Address
    retries: Retries
    now: Callable[[], float]
    random: Callable[[], float]

    def backoff(self) -> Backoff:
        """For a row of attempts that begins now."""
        return Backoff(self.retries, self.now, self.random)

    def ask(self, request: Request, asked: Asked, *, is_safe: bool = True) -> Conversation[Answer]:
        """The answer of success; raises what the server says, or ``Unreachable``.

        ``is_safe``: it can be repeated.  If an attempt to delete may have done it, the next one
        finds nothing, and that is a success.
        """
        is_safe = is_safe or self.retries.unsure
        backoff = self.backoff()
        is_renewed = is_unsure = False
        while True:
            answer: Answer | None = None
            try:
                answer = yield Call(request, renew=is_renewed)
            except OutOfTime:
                raise
            except Disconnected as lost:
                error: StreamError = Unreachable(request.url.partition("?")[0], str(lost))
                may_repeat = is_safe or lost.unsent
                is_unsure = is_unsure or not lost.unsent
            else:
                if 200 <= answer.status < 300 or (is_unsure and _is_done(asked, answer)):
                    return answer
                error = refusals.refusal(asked, answer)
                if answer.status == 401 and not is_renewed:
                    is_renewed = True  # the token may have ended meanwhile
                    continue
                may_repeat = _is_passing(answer, backoff) and (
                    is_safe or answer.status in NOTHING_DONE
                )
                is_unsure = is_unsure or answer.status >= 500
            pause_s = backoff.pause_s(answer) if may_repeat else None
            if pause_s is None:
                raise error
            yield Pause(pause_s)

    def create(
        self, command: Create, data: bytes, fork: Fork | None = None
    ) -> Conversation[Metadata]:
        """PUT.  ``fork`` stands for that of the command, as servers have offsets of any kind."""
        lifetime = command.lifetime
        headers = {
            "Content-Type": command.content_type,
            "Stream-TTL": None if lifetime.ttl_s is None else str(lifetime.ttl_s),
            "Stream-Expires-At": lifetime.expires_at,
            "Stream-Closed": "true" if command.closed else None,
        }
        if fork is not None:
            headers |= {
                "Stream-Forked-From": self.address.stream_path(fork.source),
                "Stream-Fork-Offset": fork.offset,
                "Stream-Fork-Sub-Offset": str(fork.sub_offset) if fork.sub_offset else None,
            }
        path = path_text(command.path)
        asked = Asked("PUT", path)
        if fork is not None:
            place = None if fork.sub_offset else fork.offset
            asked = Asked("PUT", path, path_text(fork.source), place)
        request = Request("PUT", self.address.stream(command.path), said(headers), data)
        try:
            answer = yield from self.ask(request, asked)
        except StreamExists:
            if fork is not None and (yield from self._is_absent(command.path)):
                raise SourceGone(path_text(fork.source)) from None
            raise
        except InvalidRequest as error:
            raise _json_fault(error, command.content_type or "", data) from None
        ttl_s, expires_at = lifetime.ttl_s, lifetime.expires_at
        if fork is not None and ttl_s is None and expires_at is None:
            return (yield from self.head(command.path, created=answer.status == 201))
        return metadata(path, answer, ttl_s, expires_at, created=answer.status == 201)

    def _is_absent(self, path: StreamPath) -> Conversation[bool]:
        """Whether there is no stream: then it is not what a create was in conflict with."""
        try:
            yield from self.head(path)
        except StreamNotFound:
            return True
        except StreamError:
            return False
        return False

    def head(self, path: StreamPath, *, created: bool = False) -> Conversation[Metadata]:
        """HEAD."""
        text = path_text(path)
        request = Request("HEAD", self.address.stream(path), {})
        answer = yield from self.ask(request, Asked("HEAD", text))
        ttl = answer.header("stream-ttl")
        ttl_s = int(ttl) if ttl.isascii() and ttl.isdecimal() else None
        expires_at = answer.header("stream-expires-at") or None
        return metadata(text, answer, ttl_s, expires_at, created=created)

    def append(self, command: Append, data: bytes) -> Conversation[AppendResult]:
        """POST.  ``command.content_type`` of data is given, or is asked for first."""
        content_type = command.content_type
        if content_type is None and data:
            content_type = (yield from self.head(command.path)).content_type
        path = path_text(command.path)
        claim, seq = command.producer, command.stream_seq
        asked = Asked("POST", path, producer=claim, stream_seq=seq, content_type=content_type or "")
        request = self.append_request(command, content_type, data)
        is_safe = claim is not None or not data
        try:
            answer = yield from self.ask(request, asked, is_safe=is_safe)
        except SequenceConflict as error:
            raise (yield from self._what_conflicts(command, error)) from None
        except InvalidRequest as error:
            raise _json_fault(error, content_type or "", data) from None
        return appended(answer, of_producer=claim is not None, has_data=bool(data))

    def append_request(self, command: Append, content_type: str | None, data: bytes) -> Request:
        """The request of an append."""
        claim = command.producer
        headers = {
            "Content-Type": content_type if data else None,
            "Stream-Closed": "true" if command.close else None,
            "Stream-Seq": command.stream_seq,
        }
        if claim is not None:
            headers |= {
                "Producer-Id": claim.id,
                "Producer-Epoch": str(claim.epoch),
                "Producer-Seq": str(claim.seq),
            }
        return Request("POST", self.address.stream(command.path), said(headers), data)

    def _what_conflicts(
        self, command: Append, error: SequenceConflict
    ) -> Conversation[StreamError]:
        """A 409 is one of two, if the caller named the content type: look which."""
        given = command.content_type
        if given is not None:
            found = (yield from self.head(command.path)).content_type
            if not same(canonical(found), canonical(given)):
                return ContentTypeMismatch(found, given)
        return error

    def delete(self, path: StreamPath) -> Conversation[None]:
        """DELETE."""
        request = Request("DELETE", self.address.stream(path), {})
        yield from self.ask(request, Asked("DELETE", path_text(path)))


def _is_done(asked: Asked, answer: Answer) -> bool:
    return asked.method == "DELETE" and answer.status in {404, 410}


def _is_passing(answer: Answer, backoff: Backoff) -> bool:
    if answer.status == 500:
        return backoff.failures + 1 < ATTEMPTS_AT_500
    return answer.status in PASSING


def canonical(content_type: str) -> str:
    """A server's content type in the form in which types are compared."""
    return normalise(content_type) or content_type


def said(headers: Mapping[str, str | None]) -> dict[str, str]:
    """The headers that have a value."""
    return {name: value for name, value in headers.items() if value is not None}


def next_offset(answer: Answer) -> str:
    """``Stream-Next-Offset``, which each answer of success has to a request for a stream."""
    token = answer.header("stream-next-offset")
    if not token:
        raise UnexpectedAnswer(
            f"the answer ({answer.status}) has no Stream-Next-Offset: see whether the URL is that "
            "of a server of durable streams, and what is between"
        )
    return token


def metadata(
    path: str, answer: Answer, ttl_s: int | None, expires_at: str | None, *, created: bool = False
) -> Metadata:
    """What an answer tells of a stream; over HTTP nobody says when it was made."""
    return Metadata(
        path,
        answer.header("content-type"),
        next_offset(answer),
        answer.is_set("stream-closed"),
        ttl_s,
        expires_at,
        0,
        created,
    )


def appended(answer: Answer, *, of_producer: bool, has_data: bool) -> AppendResult:
    """What came of an append: that of a producer is answered 204 if it was there already."""
    is_duplicate = of_producer and has_data and answer.status == _NO_CONTENT
    return AppendResult(next_offset(answer), answer.is_set("stream-closed"), is_duplicate)


def _json_fault(error: InvalidRequest, content_type: str, data: bytes) -> InvalidRequest:
    """The same refusal, as one of its JSON if that is what is wrong with the request."""
    if type(error) is InvalidRequest and data and is_json(canonical(content_type)):
        try:
            to_wire(data)
        except InvalidJson as fault:
            return fault
        return InvalidJson(str(error))
    return error
