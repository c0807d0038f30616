"""What cannot be a text in PostgreSQL: one with a NUL, and one that is not UTF-8.

HTTP, the library and the command line refuse nearly all of these before, with words of their own;
the store does not rely on it.  A statement with such a text would not even be sent, in a batch with
what others have sent; so each verb looks at all texts that it is given, before it does anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.model.errors import InvalidRequest

if TYPE_CHECKING:
    from durable_streams.model.commands import Append, Create
    from durable_streams.model.paths import StreamPath
    from durable_streams.transfers import Moved


def check_append(command: Append) -> None:
    """:class:`InvalidRequest` for an append that has such a text."""
    check_path(command.path)
    _check("Content-Type", command.content_type)
    _check("Stream-Seq", command.stream_seq)
    if command.producer is not None:
        _check("Producer-Id", command.producer.id)


def check_create(command: Create) -> None:
    """The same for a create, and for what it is a fork of."""
    check_path(command.path)
    _check("Content-Type", command.content_type)
    _check("Stream-Expires-At", command.lifetime.expires_at)
    if command.fork is not None:
        check_path(command.fork.source)


def check_moved(stream: Moved) -> None:
    """The same for a stream of another store."""
    check_path(stream.path)
    _check("Content-Type", stream.content_type)
    _check("Stream-Expires-At", stream.lifetime.expires_at)
    _check("Stream-Seq", stream.stream_seq)
    for name in stream.producers:
        _check("Producer-Id", name)


def check_path(path: StreamPath) -> None:
    """The same for a path."""
    for segment in path:
        _check("the stream path", segment)


def _check(name: str, text: str | None) -> None:
    if text is None:
        return
    if "\0" in text:
        raise InvalidRequest(f"{name} must not hold a NUL: {text[:64]!a}")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} must be valid Unicode: {text[:64]!a}") from None
