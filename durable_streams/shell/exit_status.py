"""What the exit status of the verbs on streams says: THE table, of which the docs are made.

The verbs that existed before (``verify``, say) have findings of their own from 1 on; what stands
here is of the verbs in this package, and from 70 on of the whole program.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Self

from durable_streams.model import errors as e


class Status(IntEnum):
    """Exit statuses; ``meaning`` says what for."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """A number, and what it says."""
        made = int.__new__(cls, value)
        made._value_ = value
        made.meaning = meaning
        return made

    DONE = 0, "it was done"
    REFUSED = 1, "it was not done, for a reason that is none of those below: stderr says it"
    USAGE = 2, "a command line, configuration, data directory or stdout that cannot be used"
    NOT_FOUND = 3, "there is no such stream"
    GONE = 4, "it was deleted and its forks still need it, or the offset lies before its beginning"
    CONFLICT = 5, "it contradicts what is there: another type or configuration, a producer's number"
    CLOSED = 6, "the stream is closed, and takes nothing more"
    NOT_ALLOWED = 7, "no credentials, or some that are not known, or not enough (401, 403)"
    UNREACHABLE = 8, "there is no answer"
    BUSY = 9, "not now: too many requests, or the server is stopping, behind, or without its disk"
    BAD_DATA = 10, "some lines are no JSON, or too long, and were left out: stderr says which"
    BUG = 70, "a bug of this program; its traceback is on stderr"
    INTERRUPTED = 130, "Ctrl-C (SIGINT)"
    UNREAD = 141, "nobody reads stdout any more, as behind ``| head`` (SIGPIPE)"


_BY_ERROR: Final[tuple[tuple[type[Exception], Status], ...]] = (
    (e.StreamNotFound, Status.NOT_FOUND),
    (e.StreamGone, Status.GONE),
    (e.OffsetGone, Status.GONE),
    (e.SourceGone, Status.GONE),
    (e.StreamClosed, Status.CLOSED),
    (e.Conflict, Status.CONFLICT),
    (e.StaleEpoch, Status.CONFLICT),
    (e.Unauthenticated, Status.NOT_ALLOWED),
    (e.Forbidden, Status.NOT_ALLOWED),
    (e.Unreachable, Status.UNREACHABLE),
    (e.Unavailable, Status.BUSY),
    (e.InvalidRequest, Status.USAGE),
    (e.DataDirectoryError, Status.USAGE),
)
"""The first that an error is one of."""


def status_of(error: Exception) -> Status:
    """The exit status for an error of a stream, a data directory or the system."""
    for kind, status in _BY_ERROR:
        if isinstance(error, kind):
            return status
    return Status.REFUSED
