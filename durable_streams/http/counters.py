"""What the fronts of one server count of each request, as it goes by.

Everything is a plain integer or a :class:`Tally`, and the fast lane adds to them itself, as each
small append and event pays for it.  (``Exchange.told``, where the access log is,
takes several times as much, and is not called where nobody wants lines.)  ``metrics`` reads them.

Requests are counted by method and class of status, and of those that were carried out the time:
from when all of the request was there until its answer was ready, so that no slow client is in it.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from durable_streams.http.access_log import CLIENT_LEFT
from durable_streams.measuring import SECONDS, Family, Kind, Tally, counter
from durable_streams.model.commands import Append, Create, Delete, Head, Live, Read
from durable_streams.model.errors import OpenedElsewhere, UnexpectedAnswer, Unreachable
from durable_streams.wire.replies import REASONS, reason

if TYPE_CHECKING:
    from durable_streams.measuring import Values
    from durable_streams.model.commands import Command
    from durable_streams.model.errors import StreamError

OTHER: Final = "other"
"""The method of requests whose method is none of those."""

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", OTHER)
_CLASSES: Final = ("left", "1xx", "2xx", "3xx", "4xx", "5xx")
"""By the first digit of the status; ``left``: the client went away before its answer."""

_TIMED: Final[dict[type[Command], str]] = {
    Append: "append",
    Create: "create",
    Read: "read",
    Head: "head",
    Delete: "delete",
}

_IN_LANE: Final[dict[type[Command], str]] = {Append: "POST", Create: "PUT", Read: "GET"}
"""What the fast lane answers, and its methods."""

BUG: Final = "bug"
SYSTEM: Final = "system_error"
"""Reasons of refusals beside those of errors: a bug of ours, and an error of the system."""


OF_PROGRAMS: Final = frozenset({OpenedElsewhere, Unreachable, UnexpectedAnswer})
"""Errors that programs meet, and no request of a healthy server: counted if one ever is."""


class Pushing(Protocol):
    """An answer that is under way, and sends what happens."""

    @property
    def pushed_bytes(self) -> int:
        """What it has sent so far and nobody has counted yet."""


class Counters:
    """``received_bytes`` and ``sent_bytes``: of bodies; events are sent bytes as well.

    ``following``: answers whose events are counted when they end, as an addition for each event and
    reader costs more than it tells.
    ``in_lane``: how long those took that the fast lane has answered with 2xx, by the class of the
    command; these are in no other number, but for their bytes.
    """

    def __init__(self) -> None:
        self._rows = {method: [0] * len(_CLASSES) for method in _METHODS}
        self._took: dict[type[Command], Tally] = {kind: Tally(SECONDS) for kind in _TIMED}
        self.in_lane: dict[type[Command], Tally] = {kind: Tally(SECONDS) for kind in _IN_LANE}
        self.received_bytes = 0
        self.sent_bytes = 0
        self.following: set[Pushing] = set()
        known = [name for kind, name in REASONS.items() if kind not in OF_PROGRAMS]
        self._refusals = dict.fromkeys((*known, BUG, SYSTEM), 0)

    def answered(self, method: str, status: int, sent_bytes: int) -> None:
        """A request was answered, or would have been if the client had not left."""
        row = self._rows.get(method) or self._rows[OTHER]
        row[0 if status == CLIENT_LEFT else status // 100] += 1
        self.sent_bytes += sent_bytes

    def done(self, command: Command, begin_s: float) -> None:
        """A command was carried out that began then, by ``perf_counter``; none that waits for news.

        A live read is as long as nothing happens, so its time says nothing.
        """
        if not isinstance(command, Read) or command.live is Live.NO:
            tally = self._took.get(type(command))
            if tally is not None:
                tally.add(perf_counter() - begin_s)

    def refused(self, error: StreamError) -> None:
        """A request was refused, or a connection."""
        name = reason(error)
        self._refusals[name] = self._refusals.get(name, 0) + 1

    def failed(self, reason: str) -> None:
        """A request failed for a reason that is no error of the protocol."""
        self._refusals[reason] += 1

    def families(self) -> list[Family]:
        """All of it, as it is now."""
        requests: dict[tuple[str, ...], float] = {
            (method, name): count
            for method, row in self._rows.items()
            for name, count in zip(_CLASSES, row, strict=True)
            if name != "1xx"
        }
        took = {kind: tally.copy() for kind, tally in self._took.items()}
        for kind, tally in self.in_lane.items():
            requests[_IN_LANE[kind], "2xx"] += sum(tally.counts)
            took[kind].add_all(tally)
        refusals: Values = {(name,): count for name, count in self._refusals.items()}
        return [
            Family(
                Kind.COUNTER,
                "http_requests_total",
                "Requests that were answered, by method and class of status.",
                requests,
                ("method", "status"),
            ),
            Family(
                Kind.HISTOGRAM,
                "http_operation_duration_seconds",
                "From when all of a request was there until its answer was ready; not of live "
                "reads, nor of what was refused.",
                {(_TIMED[kind],): tally for kind, tally in took.items()},
                ("operation",),
            ),
            counter(
                "http_received_bytes_total",
                "Bytes of the bodies of requests.",
                self.received_bytes,
            ),
            counter(
                "http_sent_bytes_total",
                "Bytes of the bodies of answers, and of events.",
                self.sent_bytes + sum(answer.pushed_bytes for answer in self.following),
            ),
            Family(
                Kind.COUNTER,
                "http_refusals_total",
                "Requests and connections that were refused, or failed, by the reason.",
                refusals,
                ("reason",),
            ),
        ]
