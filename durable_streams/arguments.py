"""What a program gives to the library and to ``mount``, checked before anything happens.

One rule for every argument.  A value of another type is a ``TypeError`` that names the argument; a
``bool`` is no number, and bytes are no text.  A value of the right type that cannot be is an
``InvalidRequest``, as it is over HTTP, or a ``ValueError`` where there is no request
(``open_streams``, ``mount``).  Subclasses, and what stands for an int by ``__index__``, become the
plain type, as not every codec takes them.
"""

from __future__ import annotations

import json
import operator
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from durable_streams.model.commands import FOREVER, Lifetime, ProducerClaim
from durable_streams.model.errors import InvalidJson, InvalidRequest
from durable_streams.model.offsets import Offset, Start
from durable_streams.model.paths import parse_path_text
from durable_streams.model.tokens import parse_point, parse_start
from durable_streams.rules import media_type
from durable_streams.rules.appends import check_producer, check_stream_seq
from durable_streams.rules.lifetime import MAX_INTEGER, parse_expires_at, parse_instant
from durable_streams.rules.list_pages import check_limit
from durable_streams.rules.record_pages import parse_page
from durable_streams.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.model.commands import Place
    from durable_streams.model.paths import StreamPath

MAX_WAIT_S: Final = 10 * 365 * 86_400
"""A wait is never longer: more than any program takes, and no event loop's timer overflows."""

_T = TypeVar("_T")
_V = TypeVar("_V")


def text(name: str, value: object, hint: str = "") -> str:
    """A ``str``."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise _wrong_type(name, "a str", value, hint)


def flag(name: str, value: object) -> bool:
    """A ``bool``: any other text or number would be true, also "false"."""
    if isinstance(value, bool):
        return value
    raise _wrong_type(name, "a bool", value)


def count(name: str, value: object) -> int:
    """An integer that every client can hold, from 0 on."""
    number = _integer(name, value)
    if not 0 <= number <= MAX_INTEGER:
        raise InvalidRequest(f"{name} must be an integer from 0 to {MAX_INTEGER}")
    return number


def _integer(name: str, value: object) -> int:
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # type: ignore[arg-type]  # what it refuses is refused here
        except TypeError:
            pass
    raise _wrong_type(name, "an int", value)


def seconds(name: str, value: object) -> float:
    """How long to wait; infinite is as long as ``MAX_WAIT_S``."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(name, "a number of seconds", value)
    if not value >= 0:  # NaN is not either
        raise InvalidRequest(f"{name} must be a number of seconds from 0 on")
    return float(min(value, MAX_WAIT_S))


def data(value: object) -> bytes:
    """What is to be stored, as bytes that nobody can change or take back.

    Anything with the buffer protocol does: all of its bytes are taken, also of items wider than
    one.
    """
    if type(value) is bytes:
        return value
    try:
        view = memoryview(value)  # type: ignore[arg-type]  # what it refuses is refused here
    except TypeError:
        raise _wrong_type("data", "bytes", value, _how_to_encode(value)) from None
    except ValueError as error:
        raise InvalidRequest(f"data cannot be read: {error}") from None
    return view.tobytes()


def _how_to_encode(value: object) -> str:
    if isinstance(value, str):
        return "encode it first, as in data.encode()"
    if value is None or isinstance(value, dict | list | tuple | bool | int | float):
        return (
            "to a stream of JSON append_json() appends values; else give json.dumps(data).encode()"
        )
    return ""


def json_messages(name: str, values: Sequence[object]) -> bytes:
    """Values as the body of one append, each a message, also one that is a list.

    As the module ``json`` has them, without what it knows beyond JSON: no NaN, no infinity.
    """
    texts = [_json(f"{name}[{number}]", value) for number, value in enumerate(values)]
    return b"[" + b",".join(texts) + b"]" if texts else b""


def _json(name: str, value: object) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except TypeError as error:
        hint = "append() takes JSON that is text already" if isinstance(value, bytes) else ""
        told = f"{name} has no JSON: {error}"
        raise TypeError(f"{told}; {hint}" if hint else told) from None
    except UnicodeEncodeError:
        raise InvalidJson(f"{name} has no JSON: a lone surrogate is no text") from None
    except RecursionError:
        raise InvalidJson(f"{name} has no JSON: it nests too deep") from None
    except ValueError as error:  # NaN, an infinity, what is within itself
        raise InvalidJson(f"{name} has no JSON: {error}") from None


def path(name: str, value: object) -> StreamPath:
    """The path of a stream in its text form, by the rules that URLs have to obey."""
    given = text(name, value)
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{name} must be valid Unicode: a lone surrogate, as in a file's name, is not"
        ) from None
    return _by(parse_path_text, name, given)


def prefix(name: str, value: object) -> StreamPath:
    """The same, or ``()`` for an empty text."""
    return () if value == "" else path(name, value)


def page_size(name: str, value: object) -> int:
    """How many streams a page of a list has at most."""
    return _by(check_limit, name, count(name, value))


def start(name: str, value: object) -> Offset | Start:
    """Where a read begins."""
    return _by(parse_start, name, _token(name, value))


def point(name: str, value: object) -> Offset | None:
    """A position in a stream, or None."""
    return None if value is None else _by(parse_point, name, _token(name, value))


def _token(name: str, value: object) -> str:
    return text(name, value, "use its token" if isinstance(value, Offset) else "")


def content_type(value: object) -> str | None:
    """The canonical form of a content type, or None."""
    if value is None:
        return None
    return _by(media_type.parse, "content_type", text("content_type", value))


def lifetime(ttl_s: object, expires_at: object) -> Lifetime:
    """When a stream ends: never if both are None, and only one of them can be given."""
    idle_s = None if ttl_s is None else count("ttl_s", ttl_s)
    if expires_at is None:
        return FOREVER if idle_s is None else Lifetime(ttl_s=idle_s)
    instant = _instant("expires_at", expires_at)
    instant_ms = _by(parse_expires_at, "expires_at", instant)
    if idle_s is not None:
        raise InvalidRequest("give ttl_s or expires_at, not both")
    return Lifetime(expires_at=instant, expires_at_ms=instant_ms)


def records(offset: object, since: object, last: object, limit: object) -> tuple[Place, int]:
    """Which records are asked for."""
    return parse_page(
        None if offset is None else start("offset", offset),
        None if since is None else parse_instant("since", _instant("since", since)),
        None if last is None else count("last", last),
        None if limit is None else count("limit", limit),
    )


def _instant(name: str, value: object) -> str:
    if not isinstance(value, datetime):
        hint = "" if value is None else "say the time of day and the zone"
        if not isinstance(value, str):
            raise _wrong_type(name, "an aware datetime or RFC 3339 text", value, hint)
        return text(name, value)
    if value.utcoffset() is None:
        raise InvalidRequest(f"{name} needs a time zone, as in datetime.now(UTC)")
    return value.isoformat()


def producer(value: object) -> ProducerClaim | None:
    """A producer's claim whose fields are what they have to be, or None."""
    if value is None:
        return None
    if not isinstance(value, ProducerClaim):
        raise _wrong_type("producer", "a ProducerClaim", value)
    claim = ProducerClaim(
        text("producer.id", value.id),
        _integer("producer.epoch", value.epoch),
        _integer("producer.seq", value.seq),
    )
    return _by(check_producer, "producer", claim)


def stream_seq(value: object) -> str | None:
    """A ``Stream-Seq``, or None."""
    if value is None:
        return None
    return _by(check_stream_seq, "stream_seq", text("stream_seq", value))


def directory(name: str, value: object) -> Path:
    """The path of a directory."""
    named = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(named, str):
        raise _wrong_type(name, "a str or a path of pathlib", value)
    if not named:
        raise ValueError(f"{name} is empty: use '.' for the current directory")
    try:
        encoded = os.fsencode(named)
    except UnicodeEncodeError:
        raise ValueError(f"{name} cannot be the name of a directory: {named!r}") from None
    if b"\0" in encoded:
        raise ValueError(f"{name} must not hold NUL: {named!r}")
    return Path(named)


def settings(name: str, value: object, kind: type[_T]) -> _T:
    """Settings of one class, the default ones for None."""
    return kind() if value is None else instance(name, value, kind)


def instance(name: str, value: object, kind: type[_T]) -> _T:
    """An object of one class."""
    if isinstance(value, kind):
        return value
    raise _wrong_type(name, f"of the class {kind.__name__}", value)


def store(name: str, value: object) -> Store:
    """Anything that has the verbs of a store."""
    if isinstance(value, Store):
        return value
    raise _wrong_type(name, "a Store", value)


def _by(rule: Callable[[_V], _T], name: str, value: _V) -> _T:
    """What a rule of the protocol makes of a value; refusals have our name for it."""
    try:
        return rule(value)
    except InvalidRequest as error:
        raise type(error)(f"{name}: {error}") from None


def _wrong_type(name: str, expected: str, value: object, hint: str = "") -> TypeError:
    found = "None" if value is None else type(value).__name__
    return TypeError(f"{name} must be {expected}, not {found}" + (f"; {hint}" if hint else ""))
