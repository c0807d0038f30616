"""The database as a node has it: how to connect, what time it is there, whether it is there."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from durable_streams.model.errors import (
    DatabaseDown,
    DatabaseMigrated,
    DatabaseReadOnly,
    DiskFull,
    InvalidRequest,
    StorageFailed,
    StreamError,
    Unavailable,
)
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.sessions import LOCK_TIMEOUT, Refused, Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.postgres.counted import Counted
    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.postgres.versions import Fit

AGAIN: Final = frozenset({"40001", "40P01", "55P03"})
"""Of statements that were in each other's way: serialization, deadlock, a lock not had in time."""

_FULL: Final = frozenset({"53100"})

_OF_VALUES: Final = ("22", "54")
"""What codes begin with that say what is wrong with a value: data, and limits of the program."""

log = logging.getLogger("durable_streams.postgres")


class Clock:
    """The database's time of day, between two answers of it.

    ``parameter``: what statements take for it; None but for tests, which say what time it is.
    """

    def __init__(self, told_ms: Callable[[], int] | None = None) -> None:
        self._told_ms = told_ms
        self._ahead_ms = time.time_ns() // 1_000_000 - time.monotonic_ns() // 1_000_000

    @property
    def parameter(self) -> int | None:
        """What statements are told."""
        return None if self._told_ms is None else self._told_ms()

    def learn(self, now_ms: int) -> None:
        """What time it was there a moment ago."""
        self._ahead_ms = now_ms - time.monotonic_ns() // 1_000_000

    def now_ms(self) -> int:
        """About what time it is there."""
        if self._told_ms is not None:
            return self._told_ms()
        return time.monotonic_ns() // 1_000_000 + self._ahead_ms


class Database:
    """Where sessions are opened.

    ``problem``: why none could be the last time; empty: it could.  ``is_read_only``: it is there.
    ``misfit``: why this program may not use its tables; None: it may.  ``node``: who opens them.

    Sessions may be left at a primary that was replaced, where their commits wait for ever.  So all
    are ended that lead to another server than the one that counts; who uses them opens new ones.
    """

    def __init__(self, url: DatabaseUrl, clock: Clock, counted: Counted) -> None:
        self.hosts = Hosts(url)
        self.clock = clock
        self.counted = counted
        self.node = uuid.uuid4()
        self.problem = ""
        self.is_read_only = False
        self.misfit: Fit | None = None
        self._sessions: WeakSet[Session] = WeakSet()

    def refusal(self) -> Unavailable | None:
        """Why nothing can be done there; None if it could be done the last time."""
        if not self.problem:
            return self.outdated()
        return unavailable(self.problem, DatabaseReadOnly if self.is_read_only else DatabaseDown)

    def outdated(self) -> Unavailable | None:
        """Why this program may not use its tables any more; None if it may."""
        if self.misfit is None:
            return None
        return unavailable(f"{self.hosts.url}: {self.misfit.value}", DatabaseMigrated)

    def judge(self, misfit: Fit | None) -> None:
        """Somebody has looked whether this program may use its tables."""
        if misfit is not None and misfit is not self.misfit:
            log.error("nothing is served any more: %s: %s", self.hosts.url, misfit.value)
        elif misfit is None and self.misfit is not None:
            log.warning("the tables of the database fit again")
        self.misfit = misfit

    async def leave(self, server: object) -> None:
        """Go on with another server than one that confirms nothing, if any other takes writes."""
        other = await self.hosts.choose_other(server)
        if other is not None:
            log.warning("the database confirms nothing: going on with another server")
            self.counted.moves += 1
            self._keep_only(other)

    def confirmed(self, server: object) -> None:
        """A server has confirmed a write: it is there, and no other one counts."""
        self.problem = ""
        self._keep_only(server)

    def _keep_only(self, server: object) -> None:
        """End all sessions that lead to other servers than this one."""
        for session in [*self._sessions]:
            if session.server != server:
                session.terminate()

    async def connect(self) -> Session:
        """A session for single statements; :class:`NoDatabase`."""
        return await self._open("0")

    async def connect_for_transactions(self) -> Session:
        """A session that holds no lock for long, even if its node is cut off."""
        return await self._open(LOCK_TIMEOUT)

    async def _open(self, lock_timeout: str) -> Session:
        try:
            session = await Session.open(self.hosts, lock_timeout=lock_timeout)
        except NoDatabase as error:
            if str(error) != self.problem:
                log.error("%s", error)
            self.problem, self.is_read_only = str(error), error.is_read_only
            raise
        self._sessions.add(session)
        self.counted.sessions += 1
        if self.problem:
            log.warning("the database is there again")
            self.problem = ""
        return session


def unavailable(problem: str, kind: type[Unavailable] = Unavailable) -> Unavailable:
    """The database cannot do it now."""
    return kind(f"{problem}; nothing was stored: try again")


def nobody_knows() -> StorageFailed:
    """The row that says what a write came to was removed: by hand, or after a day's absence."""
    return StorageFailed("the database has forgotten this node, and what its last write came to")


def is_of_a_value(error: Refused) -> bool:
    """Whether a statement was refused for what somebody wants to have stored."""
    return error.code.startswith(_OF_VALUES)


def failure(error: Refused) -> StreamError:
    """What to tell whoever asked for what the database refused."""
    if is_of_a_value(error):
        return InvalidRequest("the request has a value that the database cannot store")
    if error.code in _FULL:
        return DiskFull("the database has no space left; nothing was stored")
    return unavailable(f"the database refused it: {error}")
