"""Log lines: one per problem, as text or as JSON.

Everything here writes through the logger ``durable_streams`` of the standard library, with what a
machine may want to filter by as ``extra`` fields.  Only the command line installs handlers; an
application that embeds the server keeps its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

THROTTLE_S: Final = 10.0
"""Between two lines about the same problem: an overload must not become one of the log as well."""

AT_ONCE: Final = 20
"""Lines about one problem in that time that a server writes: a handful of streams has one each."""

logger = logging.getLogger("durable_streams")

_T = TypeVar("_T")

_STANDARD: Final = vars(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}))
_STANDARD_FIELDS: Final = frozenset(_STANDARD) | {"message", "asctime"}


_BEGIN_S: Final = _STANDARD["created"] - _STANDARD["relativeCreated"] / 1000


class LeanRecord(logging.LogRecord):
    """A record of level INFO that is made for every request.

    It has the fields of any other one; which line of code, thread and task has logged it is not
    found out, as that takes longer than writing it.
    """

    __slots__ = ("extra",)  # beside the fields, which handlers of others look through

    def __init__(self, name: str, message: str, extra: dict[str, object]) -> None:
        created_s = time.time()
        self.extra = extra
        vars(self).update(
            _STANDARD,
            name=name,
            msg=message,
            process=os.getpid(),
            created=created_s,
            msecs=created_s % 1 * 1000,
            relativeCreated=(created_s - _BEGIN_S) * 1000,
            **extra,
        )


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00Z WARNING message key=value``."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line; a traceback follows it."""
        fields = [f" {name}={_printable(value)}" for name, value in _fields(record).items()]
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


def made_id() -> str:
    """What a request is called that does not say it, or not so that it will do."""
    return f"{random.getrandbits(64):016x}"


class Throttle(logging.Filter):
    """Lets a problem that repeats into the log now and then, and counts the lines it leaves out.

    The first ``at_once`` lines within ``THROTTLE_S`` are written, and the next one that is written
    later says how many were not (``left_out``).  As the filter of a handler it takes lines from
    WARNING on for those of one problem if one place in the code writes them and they name the same
    class of error (``error``), whatever stream or client they are about: so there are only so many
    problems, and what clients or disks do again and again is no flood, whoever logs it.  Threads
    may log at a time.
    """

    def __init__(self, at_once: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._at_once = at_once
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[object, _Seen] = {}

    def passes(self, problem: object, message: str = "") -> int | None:
        """None if a line about ``problem`` is to be left out, else how many were before it.

        There must be few different ones.  ``message``: what :meth:`rest` says of those left out.
        """
        now_s = self._clock()
        with self._lock:
            seen = self._seen.get(problem)
            if seen is None or now_s >= seen.until_s:
                left_out = 0 if seen is None else seen.left_out
                self._seen[problem] = _Seen(now_s + THROTTLE_S)
                return left_out
            if seen.written < self._at_once:
                seen.written += 1
                return 0
            seen.left_out += 1
            seen.message = message
            return None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is to be written."""
        if record.levelno < logging.WARNING:
            return True
        problem = (record.pathname, record.lineno, vars(record).get("error"))
        left_out = self.passes(problem, record.getMessage())
        if left_out:
            record.left_out = left_out
        return left_out is not None

    def rest(self, *, is_last: bool = False) -> list[tuple[int, str]]:
        """How many lines were left out of which no later one has told, and the last of each kind.

        Those whose time is not over may still be told of, unless ``is_last``.
        """
        now_s = self._clock()
        told = []
        with self._lock:
            for seen in self._seen.values():
                if seen.left_out and (is_last or now_s >= seen.until_s):
                    told.append((seen.left_out, seen.message))
                    seen.left_out = 0
        return told


class _Seen:
    """A problem: how many lines about it were written, and left out, since it has begun."""

    __slots__ = ("left_out", "message", "until_s", "written")

    def __init__(self, until_s: float) -> None:
        self.until_s = until_s
        self.written = 1
        self.left_out = 0
        self.message = ""


async def with_rest_told(throttle: Throttle, serving: Coroutine[Any, Any, _T]) -> _T:
    """Run something, and log what a throttle leaves out meanwhile, also of what does not go on."""
    telling = asyncio.create_task(_tell_rest(throttle))
    try:
        return await serving
    finally:
        telling.cancel()
        _log_rest(throttle.rest(is_last=True))


async def _tell_rest(throttle: Throttle) -> None:
    while True:
        await asyncio.sleep(THROTTLE_S)
        _log_rest(throttle.rest())


def _log_rest(rest: list[tuple[int, str]]) -> None:
    for left_out, message in rest:
        logger.info("left out lines such as: %s", message, extra={"left_out": left_out})


def configure(
    log_format: str, *, stream: TextIO | None = None, throttle: Throttle | None = None
) -> logging.Handler:
    """Send all logging of this process to ``stream``, or to stderr: for the serve command only.

    Returns what writes it, the format of which :func:`set_format` changes.  ``throttle``: leaves
    out lines about problems that repeat.
    """
    handler = logging.StreamHandler(stream)
    if throttle is not None:
        handler.addFilter(throttle)
    set_format(handler, log_format)
    logging.getLogger().addHandler(handler)
    logging.getLogger("durable_streams").setLevel(logging.INFO)
    return handler


def set_format(handler: logging.Handler, log_format: str) -> None:
    """Write the lines to come in a format, ``text`` or ``json``."""
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())


def tell_dropped(name: str, count: int) -> None:
    """Log that so many lines for ``name``, a standard stream, were dropped."""
    logger.warning(
        "dropped %d lines of %s: it was not read, or full", count, name, extra={"dropped": count}
    )


def _time(record: logging.LogRecord) -> str:
    second, rest = divmod(record.created, 1)
    return f"{_second(second)}.{int(rest * 1e6):06}Z"


@lru_cache(2)  # a line of the access log takes as long as what it is about
def _second(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _fields(record: logging.LogRecord) -> dict[str, object]:
    if isinstance(record, LeanRecord):
        return record.extra
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}


def _printable(value: object) -> str:
    if isinstance(value, int):
        return str(value)
    text = str(value)
    return text if text.isprintable() and " " not in text and text else repr(text)


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(text.split()))
