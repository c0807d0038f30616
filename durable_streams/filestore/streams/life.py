"""The life of a stream, drawn once: where it is in it, what moves it on, and who may do what.

Theory
------

A stream is in one of nine states.  A decision of the event loop moves it at once (a write that is
decided builds on what is decided, durable or not), and what became of the decision moves it again::

         failed           durable           delete          durable         unlink
    UNBORN ◀──── COMING ───────────▶ LIVE ─────────▶ GOING ──────────▶ GONE ───────▶ UNLINKED
                                     │ ▲ ▲             │                ▲
                         soft-delete │ │ └── failed ───┘                │
                                     │ │ failed                         │
                                     ▼ │                                │
                                 GOING_SOFTLY                           │ durable
                                     │ durable                          │
                                     ▼            delete                │
                               KEPT_FOR_FORKS ────────────▶ KEPT_GOING ─┘
                                     ▲                         │
                                     └──────── failed ─────────┘

- *durable*: the journal has it.  Of a fork, which comes with files of its own: those are in place.
- *failed*: it was not stored, so all is as before.  Nothing fails once it is durable.
- *soft-delete* and *delete* are decisions: while forks need a stream, or none does.
- *unlink*: its files are not at their path any more.  Until then the path has two of them, perhaps:
  this one, and one that was made there after the deletion was durable.

Who may do what is one row of :data:`RULES` for each state.  Readers go by what is durable: they may
go on while an end is on its way, and are told of it once no crash can make it untrue.  Writers go
by what is decided, and get their answer once that is durable.  Whoever looks for the stream at its
path waits where the answer is not known yet.

Beside it
---------

- *Expired* is no state: time makes it so, without anybody's decision
  (:meth:`.Stream.is_expired`), and a stream in any of them may be.  An expired stream is as good as
  gone for all who ask, stays where it is here, and is deleted like any other when it is found.
- *Out of service* is neither.  It says that files cannot be read or written now, goes by path and
  id (``pipeline.outages``), and a stream in any state may be.
- *Closed* is part of what a stream holds: its tail says so.

Owned by the event loop.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from durable_streams.model.errors import StreamGone, StreamNotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.model.errors import StreamError


class Life(Enum):
    """Where in its life a stream is."""

    __hash__ = object.__hash__  # that of enums is computed in Python, and tables are asked often

    COMING = auto()
    LIVE = auto()
    GOING_SOFTLY = auto()
    KEPT_FOR_FORKS = auto()
    GOING = auto()
    KEPT_GOING = auto()
    GONE = auto()
    UNLINKED = auto()
    UNBORN = auto()


class Event(Enum):
    """What moves it on: two decisions, and what becomes of one."""

    SOFT_DELETE = auto()
    DELETE = auto()
    DURABLE = auto()
    FAILED = auto()
    UNLINK = auto()


TRANSITIONS: Final[dict[Life, dict[Event, Life]]] = {
    Life.COMING: {Event.DURABLE: Life.LIVE, Event.FAILED: Life.UNBORN},
    Life.LIVE: {Event.SOFT_DELETE: Life.GOING_SOFTLY, Event.DELETE: Life.GOING},
    Life.GOING_SOFTLY: {Event.DURABLE: Life.KEPT_FOR_FORKS, Event.FAILED: Life.LIVE},
    Life.KEPT_FOR_FORKS: {Event.DELETE: Life.KEPT_GOING},
    Life.GOING: {Event.DURABLE: Life.GONE, Event.FAILED: Life.LIVE},
    Life.KEPT_GOING: {Event.DURABLE: Life.GONE, Event.FAILED: Life.KEPT_FOR_FORKS},
    Life.GONE: {Event.UNLINK: Life.UNLINKED},
    Life.UNLINKED: {},
    Life.UNBORN: {},
}


class Found(Enum):
    """What somebody finds who looks for the stream at its path."""

    HERE = auto()
    WAIT = auto()  # for what is on its way, and look again
    NOTHING = auto()  # but a stream that was made after this one


class Rules(NamedTuple):
    """Who may do what; an error is what they are told instead, None that they may.

    ``reads``: whoever has opened it.  ``appends``: whoever found it at its path; the answer depends
    on what is on its way.  ``is_deleted``: if only softly; a create clears it away before, unless
    forks need it.  ``has_ended``: a deletion was decided, so nothing is changed any more.
    """

    found: Found
    reads: type[StreamError] | None = None
    appends: type[StreamError] | None = None
    is_deleted: bool = False
    has_ended: bool = False


RULES: Final[dict[Life, Rules]] = {
    Life.COMING: Rules(Found.WAIT),
    Life.LIVE: Rules(Found.HERE),
    Life.GOING_SOFTLY: Rules(Found.HERE, None, StreamGone, is_deleted=True),
    Life.KEPT_FOR_FORKS: Rules(Found.HERE, StreamGone, StreamGone, is_deleted=True),
    Life.GOING: Rules(Found.WAIT, None, StreamNotFound, has_ended=True),
    Life.KEPT_GOING: Rules(Found.WAIT, StreamGone, StreamGone, is_deleted=True, has_ended=True),
    Life.GONE: Rules(Found.NOTHING, StreamNotFound, StreamNotFound, has_ended=True),
    Life.UNLINKED: Rules(Found.NOTHING, StreamNotFound, StreamNotFound, has_ended=True),
    Life.UNBORN: Rules(Found.NOTHING, StreamNotFound, StreamNotFound, has_ended=True),
}

LIVE: Final = Life.LIVE
"""The one that nearly every request meets, to be compared with before anything is looked up."""


class Change(Protocol):
    """Something decided that is on its way to be durable, as a stream knows it.

    ``pending``: whether that is not known yet.  ``error``: why it failed, if it did.  ``earlier``:
    the one before it, while that is on its way.
    """

    earlier: Change | None
    pending: bool
    error: StreamError | None

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back, once, when a pending one is durable or has failed."""

    async def wait(self) -> None:
        """Return when durable, raise if it failed."""
