"""Log lines: one per problem, as text or as JSON.

Everything here writes through the logger ``durable_streams`` of the standard library, with what a
machine may want to filter by as ``extra`` fields.  Only the command line installs handlers; an
application that embeds the server keeps its own.
"""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from durable_streams.wire.signed_query import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

THROTTLE_S: Final = 10.0
"""Between two lines about the same problem: an overload must not become one of the log as well."""

access_logger = logging.getLogger("durable_streams.access")

_STANDARD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00Z WARNING message key=value``."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line; a traceback follows it."""
        fields = (f" {name}={_printable(value)}" for name, value in _fields(record).items())
        message = _one_line(record.getMessage())
        return f"{_time(record)} {record.levelname} {message}{''.join(fields)}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line; a traceback is a field."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class Exchanged(NamedTuple):
    """An exchange that is over, as its front saw it; ``size_bytes``: of the answer's body."""

    peer: str | None
    method: str
    target: str
    status: int
    size_bytes: int
    duration_s: float


CLIENT_LEFT: Final = 499
"""The status, in the access log only, of a request whose client went away before its answer."""


def log_access(exchanged: Exchanged) -> None:
    """Write the line of the access log about an exchange, whichever way it was answered.

    Without the signature of a signed URL, with which whoever reads the log could read the stream.
    """
    access_logger.info(
        "request",
        extra={
            "peer": exchanged.peer,
            "method": exchanged.method,
            "path": redacted(exchanged.target),
            "status": exchanged.status,
            "size_bytes": exchanged.size_bytes,
            "duration_s": round(exchanged.duration_s, 6),
        },
    )


class Throttle:
    """Lets a problem through to the log once in ``THROTTLE_S``, however often it happens."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_s: dict[object, float] = {}

    def allows(self, problem: object) -> bool:
        """Whether to log ``problem`` now; there must be few different ones."""
        now_s = self._clock()
        if now_s < self._next_s.get(problem, 0.0):
            return False
        self._next_s[problem] = now_s + THROTTLE_S
        return True


def configure(log_format: str, *, stream: TextIO | None = None) -> logging.Handler:
    """Send all logging of this process to ``stream``, or to stderr: for the serve command only.

    Returns what writes it, the format of which :func:`set_format` changes.
    """
    handler = logging.StreamHandler(stream)
    set_format(handler, log_format)
    logging.getLogger().addHandler(handler)
    logging.getLogger("durable_streams").setLevel(logging.INFO)
    return handler


def set_format(handler: logging.Handler, log_format: str) -> None:
    """Write the lines to come in a format, ``text`` or ``json``."""
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())


def tell_dropped(name: str, count: int) -> None:
    """Log that so many lines for ``name``, a standard stream, were dropped."""
    logging.getLogger("durable_streams").warning(
        "dropped %d lines of %s: it was not read, or full", count, name, extra={"dropped": count}
    )


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _printable(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
