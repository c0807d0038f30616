"""Answers that refuse, as the errors that the library raises: by status and headers alone.

What else an error has to say is the text that the server sent, which nobody reads but people.
Where a server keeps a field to itself, it is that of the request, or zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.client.retries import retry_after_s
from durable_streams.model import errors as e
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.model.tokens import parse_offset

if TYPE_CHECKING:
    from durable_streams.client.steps import Answer
    from durable_streams.model.commands import ProducerClaim

_MAX_TEXT: Final = 500
_SAID_SECONDS: Final = 1
"""When to come back, if the server does not say."""

_Error = TypeVar("_Error", bound=e.StreamError)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a refused request was for; ``source``: of a fork, ``offset``: of a read."""

    method: str
    path: str
    source: str | None = None
    offset: str | None = None
    producer: ProducerClaim | None = None
    stream_seq: str | None = None
    content_type: str = ""


def refusal(asked: Asked, answer: Answer) -> e.StreamError:
    """The error for an answer that is no success."""
    status = answer.status
    match status:
        case 400:
            return _malformed(asked, answer)
        case 401:
            return _with(e.Unauthenticated, answer, error="")
        case 403:
            current = _number(answer, "producer-epoch")
            if asked.producer is not None and current is not None:
                return e.StaleEpoch(current)
            return _with(e.Forbidden, answer, scope="")
        case 404:
            return e.StreamNotFound(asked.source or asked.path)
        case 409:
            return _conflict(asked, answer)
        case 410:
            return _gone(asked, answer)
        case 429 | 502 | 503 | 504:
            kind = e.TooManyRequests if status == 429 else e.Unavailable
            return _with(kind, answer, retry_after_s=retry_after_s(answer) or _SAID_SECONDS)
        case 413:
            return _with(e.PayloadTooLarge, answer, limit_bytes=0)
        case _:
            return _with(_BY_STATUS.get(status, e.UnexpectedAnswer), answer)


_BY_STATUS: Final[dict[int, type[e.StreamError]]] = {
    405: e.MethodNotAllowed,
    408: e.RequestTimeout,
    414: e.TargetTooLong,
    415: e.UnsupportedEncoding,
    431: e.HeadersTooLarge,
    500: e.StreamError,
    501: e.UnsupportedTransferCoding,
    507: e.DiskFull,
}


def _malformed(asked: Asked, answer: Answer) -> e.StreamError:
    if asked.offset is not None:
        return _with(e.InvalidOffset, answer)
    claim = asked.producer
    if claim is not None and claim.seq > 0:
        return _with(e.EpochWithoutStart, answer)
    return _with(e.InvalidRequest, answer)


def _conflict(asked: Asked, answer: Answer) -> e.StreamError:
    """What a 409 to a write is; that of a create has to be found out, see ``verbs``."""
    if asked.method == "PUT":
        return _with(e.StreamExists, answer, path=asked.path, difference="")
    if answer.is_set("stream-closed"):
        return e.StreamClosed(offset_of(answer.header("stream-next-offset")))
    expected, received = (
        _number(answer, f"producer-{which}-seq") for which in ("expected", "received")
    )
    if expected is not None and received is not None:
        return e.ProducerGap(expected, received)
    if asked.stream_seq is not None:
        return _with(e.SequenceConflict, answer, last="", received=asked.stream_seq)
    return _with(e.ContentTypeMismatch, answer, expected="", received=asked.content_type)


def _gone(asked: Asked, answer: Answer) -> e.StreamError:
    begin = answer.header("stream-next-offset")
    if asked.offset is not None and begin:
        return e.OffsetGone(asked.path, offset_of(asked.offset), offset_of(begin))
    return e.StreamGone(asked.path)


def offset_of(token: str) -> Offset:
    """A token as an offset; zero if the server has offsets of another kind."""
    try:
        return parse_offset(token)
    except e.InvalidOffset:
        return ZERO


def _number(answer: Answer, header: str) -> int | None:
    text = answer.header(header)
    return int(text) if text.isascii() and text.isdecimal() else None


def _with(kind: type[_Error], answer: Answer, **fields: object) -> _Error:
    """An error with the server's text, whatever its constructor would say."""
    error = kind.__new__(kind, text_of(answer))
    for name, value in fields.items():
        setattr(error, name, value)
    return error


def text_of(answer: Answer) -> str:
    """What a server says for people; its status if it says nothing."""
    text = answer.body[: 4 * _MAX_TEXT].decode(errors="replace").strip()[:_MAX_TEXT]
    text = "".join(character if character.isprintable() else " " for character in text)
    where = answer.header("location")
    elsewhere = f"; it is at {where!r}: use that URL" if 300 <= answer.status < 400 else ""
    return text or f"the server answered {answer.status}{elsewhere}"
