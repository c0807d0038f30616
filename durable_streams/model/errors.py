"""Every way a request can fail, as types with fields.

The rules, the stores and what reads requests raise these; one table in ``wire/replies.py`` turns
them into HTTP answers, and a library user catches them.  No other place chooses a status, and
nobody reads the message to find out what happened.

All can be pickled and copied: another process gets the same type, text and fields.  A ``path`` in
one is in the text form of ``model/paths``::

    StreamError
    ├── InvalidRequest            the request is malformed
    │   ├── InvalidOffset         … its offset is malformed or no position of the stream
    │   ├── InvalidJson           … its body is not JSON
    │   ├── EpochWithoutStart     … a new producer epoch that does not begin at sequence 0
    │   └── TooManyProducers      … the stream has no room for one more producer
    ├── UnsupportedEncoding       the body has a Content-Encoding
    ├── UnsupportedTransferCoding the body is coded for the transfer, and not only in chunks
    ├── TargetTooLong             the URL exceeds the limit
    ├── HeadersTooLarge           the headers exceed the limits
    ├── MethodNotAllowed          the method means nothing here
    ├── RequestTimeout            the head or the body came too slowly
    ├── PayloadTooLarge           the body exceeds the limit
    ├── StreamNotFound            no such stream, or it expired
    ├── StreamGone                deleted, but forks still need its data
    ├── OffsetGone                before the beginning of the stream that is there now
    ├── Conflict
    │   ├── StreamExists          … with another configuration
    │   ├── SourceGone            the fork's source is deleted
    │   ├── StreamClosed          no appends any more
    │   ├── ContentTypeMismatch
    │   ├── SequenceConflict      Stream-Seq does not increase
    │   └── ProducerGap           a producer's sequence skipped numbers
    ├── StaleEpoch                a newer epoch of the producer exists
    ├── Unauthenticated           nobody we know
    ├── Forbidden                 somebody we know, who may not
    │   ├── ForeignPage           … a web page of an origin that is not welcome
    │   └── ForeignHost           … a name that is none of the server's
    ├── Unavailable               try again later
    │   ├── TooManyRequests       … as there is a limit: for each who asks, of streams, of producers
    │   ├── Overloaded            the server is behind, or full of connections
    │   ├── Draining              the server is shutting down
    │   │   └── NotOpen           … the data directory was closed
    │   ├── DatabaseDown          … which streams are in
    │   ├── DatabaseMigrated      … has tables that this node may not use
    │   ├── DatabaseReadOnly      … takes no writes
    │   ├── DatabaseUnconfirmed   … has no standbys that confirm what it writes
    │   ├── WriteFailed           the system refused this one
    │   ├── Unreachable           a client finds no server
    │   └── StorageFailed         a sync failed; writes need a restart
    ├── DiskFull
    ├── StreamUnusable
    │   ├── StreamOutOfService    … its files cannot be written
    │   ├── StreamUnreadable      … the system does not let them be read
    │   └── StreamDamaged         … its files fail their checksums
    ├── UnexpectedAnswer          a client cannot make sense of what it was answered
    └── OpenedElsewhere           used from another event loop, thread or process than opened in

    DataDirectoryError            the data directory cannot be opened (no request is involved)
    └── DataDirectoryInUse        … as somebody has it open
"""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from durable_streams.model.offsets import Offset


class _Portable(Exception):
    """Pickled and copied as text and fields, whatever the constructor takes.

    ``Exception`` would call the constructor again with the text alone.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__ or None  # type: ignore[attr-defined]


class StreamError(_Portable):
    """Base of all errors of requests; ``str()`` says what is wrong and what to do (500)."""

    def again(self) -> Self:
        """The error, for raising it once more: without what it met the last time.

        One that is kept would otherwise keep the frames of everybody it was ever raised for, and
        what is in them.
        """
        self.__context__ = None
        return self.with_traceback(None)


class InvalidRequest(StreamError):
    """A header, parameter, path or body is malformed (400)."""


class InvalidOffset(InvalidRequest):
    """An offset is malformed, or names no position of the stream (400)."""


class InvalidJson(InvalidRequest):
    """The body of a JSON stream's append is not valid JSON (400)."""


class EpochWithoutStart(InvalidRequest):
    """A new producer epoch must begin at sequence 0 (400)."""


class TooManyProducers(InvalidRequest):
    """There is no room for one more producer, and none that could be forgotten (400).

    ``producers``: how many the stream has; ``limit_bytes``: what they may take, each its id in
    JSON and ``entry_bytes`` more.
    """

    def __init__(self, producers: int, limit_bytes: int, entry_bytes: int) -> None:
        super().__init__(
            f"the stream has {producers} producers and no room for another one: they may take "
            f"{limit_bytes} bytes, each its id and {entry_bytes} more. Those that have been idle "
            "for over 7 days make room, and there are too few of them. A new id for each run is "
            "the usual cause: keep the id and raise the epoch, or use another stream"
        )
        self.producers = producers
        self.limit_bytes = limit_bytes
        self.entry_bytes = entry_bytes


class UnsupportedEncoding(StreamError):
    """The request body carries a Content-Encoding; bodies are stored as sent (415)."""


class UnsupportedTransferCoding(StreamError):
    """The request body has a transfer coding other than ``chunked``; nothing undoes it (501)."""


class TargetTooLong(StreamError):
    """The URL of the request is longer than the server takes (414)."""


class HeadersTooLarge(StreamError):
    """The headers of the request are more or longer than the server takes (431)."""


class MethodNotAllowed(StreamError):
    """The HTTP method has no meaning for a stream (405)."""


class RequestTimeout(StreamError):
    """The head or the body of a request did not arrive in time (408)."""


class PayloadTooLarge(StreamError):
    """The request body exceeds ``limit_bytes`` (413)."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the body is larger than the limit of {limit_bytes} bytes: send it in several appends"
        )
        self.limit_bytes = limit_bytes


class StreamNotFound(StreamError):
    """There is no stream at ``path``, or it has expired (404)."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no stream at {path!r}: create it first, or again if it expired")
        self.path = path


class StreamGone(StreamError):
    """The stream at ``path`` was deleted; its data is kept only for its forks (410)."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the stream {path!r} was deleted, but forks need its data: use another path until "
            "they are deleted as well"
        )
        self.path = path


class OffsetGone(StreamError):
    """The ``offset`` lies before ``begin``, where the stream at ``path`` begins (410).

    It is of a stream that was there before: whoever read that one begins anew.
    """

    def __init__(self, path: str, offset: Offset, begin: Offset) -> None:
        super().__init__(
            f"the stream {path!r} begins at {begin.token}, and {offset.token} lies before that, in "
            f"a stream that was there earlier: use {begin.token} to begin anew (or -1, for which a "
            "cache on the way may still have the earlier one)"
        )
        self.path = path
        self.offset = offset
        self.begin = begin


class Conflict(StreamError):
    """The request contradicts the state of the stream (409)."""


class StreamExists(Conflict):
    """A stream is at ``path`` whose configuration has a ``difference`` to the one given (409)."""

    def __init__(self, path: str, difference: str) -> None:
        super().__init__(
            f"a stream exists at {path!r} with another configuration: {difference}; "
            "use another path, or create it as it is"
        )
        self.path = path
        self.difference = difference


class SourceGone(Conflict):
    """The stream at ``path``, the source of a fork, was deleted (409)."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the source stream {path!r} was deleted and cannot be forked: "
            "use a stream that is there, such as another fork of it"
        )
        self.path = path


class StreamClosed(Conflict):
    """The stream is closed at ``tail`` and takes no appends (409)."""

    def __init__(self, tail: Offset) -> None:
        super().__init__("the stream is closed for good: use another one for what comes now")
        self.tail = tail


class ContentTypeMismatch(Conflict):
    """The content type ``received`` is not the stream's, which is ``expected`` (409)."""

    def __init__(self, expected: str, received: str) -> None:
        super().__init__(
            f"the stream's content type is {expected!r}, not {received!r}: use the stream's"
        )
        self.expected = expected
        self.received = received


class SequenceConflict(Conflict):
    """The ``Stream-Seq`` that was ``received`` is not greater than the ``last`` one (409)."""

    def __init__(self, last: str, received: str) -> None:
        super().__init__(
            f"sequence conflict: Stream-Seq {received!r} is not greater than {last!r}; "
            "use one that is, unless this was written before"
        )
        self.last = last
        self.received = received


class ProducerGap(Conflict):
    """A producer's number ``received`` skipped some: ``expected`` comes first (409)."""

    def __init__(self, expected: int, received: int) -> None:
        super().__init__(
            f"producer sequence gap: expected {expected}, received {received}; "
            f"send what has number {expected} first"
        )
        self.expected = expected
        self.received = received


class StaleEpoch(StreamError):
    """A newer epoch of this producer, ``current``, has been seen: this one is fenced off (403)."""

    def __init__(self, current: int) -> None:
        super().__init__(
            f"stale producer epoch: the current epoch is {current}; stop if another producer took "
            f"over, or use epoch {current + 1} from sequence 0 on to take over from it"
        )
        self.current = current


class Unauthenticated(StreamError):
    """There are no credentials, or none that are known, or not any more (401).

    ``error``: what RFC 6750 (section 3.1) calls it, ``invalid_token``; empty if there were none.
    """

    def __init__(self, message: str, error: str = "") -> None:
        super().__init__(message)
        self.error = error


class Forbidden(StreamError):
    """Whoever asks is known, and may not (403).

    Producers are told 401: their clients take any 403 for a stale epoch.  ``scope``: the one that
    is missing; empty if it is not for lack of one.
    """

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.scope = scope


class ForeignPage(Forbidden):
    """A web page asks, of an origin that is not welcome, or for a script (403)."""


class ForeignHost(Forbidden):
    """The request is for a host name that is none of the server's (403)."""


class Unavailable(StreamError):
    """The server cannot do this now; try again after ``retry_after_s`` seconds (503)."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooManyRequests(Unavailable):
    """Whoever asks has had as much as there is for one, for ``retry_after_s`` seconds (429).

    Or there are as many streams below a prefix, or producers of a stream, as settings allow; then
    it does not depend on who asks, and others have to make room.
    """


class Overloaded(Unavailable):
    """Writes wait and nothing moves on the disk, or there are too many connections (503)."""


class Draining(Unavailable):
    """The server is shutting down and takes no new writes (503)."""

    def __init__(self, retry_after_s: int = 1) -> None:
        super().__init__("the server is shutting down: try again when it is back", retry_after_s)


class NotOpen(Draining):
    """The data directory was closed, and nothing can be read or written any more (503)."""

    def __init__(self) -> None:
        Unavailable.__init__(
            self, "the data directory was closed: open it again, and use what that gives"
        )


class DatabaseDown(Unavailable):
    """The database of the streams is not there, or refuses to do anything (503)."""


class DatabaseMigrated(Unavailable):
    """The database has tables of a version that this node may not use: another one may (503)."""


class DatabaseReadOnly(Unavailable):
    """No server of the database takes writes, as while a standby takes over (503)."""


class DatabaseUnconfirmed(Unavailable):
    """The database confirms nothing: too few standbys are there, or it was replaced (503)."""


class WriteFailed(Unavailable):
    """The system refused a write, and nothing was stored; another may work (503)."""


class Unreachable(Unavailable):
    """A client has no answer from the server at ``url``, for the reason in ``cause`` (503).

    Whether it has done what it was asked for is not known.
    """

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"no answer from {url}: {cause}; see whether it runs, and try again")
        self.url = url
        self.cause = cause


class StorageFailed(Unavailable):
    """A sync failed: reads go on, all writes need a restart of the server (503).

    A write that was under way may be stored or not.  The restart decides that for good, so a
    client finds out by trying again as an idempotent producer, or by reading.
    """

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"{cause}; no more is written until the server is restarted", retry_after_s=60
        )


class DiskFull(StreamError):
    """There is no room for the write; nothing was stored (507)."""


class StreamUnusable(StreamError):
    """Something is wrong with the files of the stream at ``path``; ``detail`` says what (500)."""

    _STATE = "unusable"
    _TO_DO = "see the server's log"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"the stream {path!r} is {self._STATE}: {detail}; {self._TO_DO}")
        self.path = path
        self.detail = detail


class StreamOutOfService(StreamUnusable):
    """Writing the files of the stream at ``path`` failed; what was acknowledged is kept (500)."""

    _STATE = "out of service"
    _TO_DO = "it is tried again now and then: see the server's log, and readyz"


class StreamUnreadable(StreamUnusable):
    """The system refuses to read the files of the stream at ``path``; nothing was changed (500)."""

    _STATE = "unreadable"
    _TO_DO = "see to its owner, its mode or the disk; no restart is needed"


class StreamDamaged(StreamUnusable):
    """The files of a stream fail their checksums; nothing was changed (500)."""

    _STATE = "damaged"
    _TO_DO = "run durable-streams verify to see what is sound; a backup may have the rest"


class UnexpectedAnswer(StreamError):
    """What a client was answered makes no sense: it may be no server of durable streams (500)."""


class OpenedElsewhere(StreamError, RuntimeError):
    """Streams are used where they were not opened: by another event loop, thread or process (500).

    A mistake of the program, as each of them belongs to the event loop that it was opened in.
    """


class DataDirectoryError(_Portable):
    """The data directory cannot be opened; ``str()`` is one line that says why and what to do."""


class DataDirectoryInUse(DataDirectoryError):
    """Somebody has the data directory open: process ``pid``, None if that is not known."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid
