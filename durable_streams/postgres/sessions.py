"""Connections to the database, whose statements nothing cancels.

A statement ends in one of three ways: it is done; it was refused (``Refused``: nothing of it was
done); or nobody knows (``Unknown``), as the connection was lost, or a commit did not wait for the
standbys.  What an unknown one wrote is found out by :mod:`.fencing`.

No session has a timeout of statements and none is closed in good order, as both make the driver
send a cancel request (:mod:`.steady`); :meth:`Session.terminate` closes the socket.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import asyncpg

from durable_streams.postgres.connecting import CONNECT_TIMEOUT_S, NoDatabase
from durable_streams.postgres.steady import steadily

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from durable_streams.postgres.connecting import Hosts

_T = TypeVar("_T")

SILENCE_MS: Final = 10_000
"""After which a connection counts as lost whose other side acknowledges nothing."""

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
"""For a commit that waits for a standby: nothing of it is left to be acknowledged."""

LOCK_TIMEOUT: Final = "2s"
"""Of transactions with several statements: a node that is cut off holds no stream for long."""

_NOT_REPLICATED: Final = "SyncRepWaitForLSN"
"""The function of the server whose notices say that a commit did not wait for the standbys."""

NODE: Final = "durable-streams"
COMMAND: Final = "durable-streams store"
"""What sessions are called that are a node's, and those of a command, which is none."""

_SETTINGS: Final = {
    "client_min_messages": "notice",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "idle_session_timeout": "0",
    "jit": "off",
    "statement_timeout": "0",
    "synchronous_commit": "on",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
"""A plan for the values of one batch serves no other, and takes longer than the batch.

One that serves all may be made when there is nothing in the tables, and has to do when there is.
``jit``: what has no index would be compiled each time, as its cost is said to be without end.
"""

_SET: Final = """
select set_config(name, value, false) from unnest($1::text[], $2::text[]) as s(name, value)
"""
_IS_SET: Final = """
select array(select name from unnest($1::text[], $2::text[]) as s(name, value)
 where current_setting(name) <> value and name not like 'tcp%') as lost,
 pg_postmaster_start_time() as server
"""
"""Which are not kept; those of TCP have no meaning on a unix socket."""

_MOST_PREPARED: Final = 100
"""Statements; there are some forty."""


_OF_CONNECTIONS: Final = "08"
"""What codes begin with that poolers use, too, when they lose the server: that refuses nothing."""


class Refused(Exception):
    """The database refused a statement, and nothing of it was done; ``code`` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class Unknown(Exception):
    """Nobody knows whether a statement was done, and by whom that is known to have been done."""


class Session:
    """A connection for one statement after the other; use :meth:`open`.

    ``server``: when the one it leads to was started, by which it is told from others.
    """

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._not_replicated = False
        self.server: object = None
        connection.add_log_listener(self._noticed)

    @classmethod
    async def open(cls, hosts: Hosts, *, lock_timeout: str = "0", name: str = NODE) -> Session:
        """Connect to the primary, and see to it that the session is as it has to be.

        ``lock_timeout``: of transactions with several statements, also for their idle time, which
        is short in any case where ``name``, whose it is, is a node.  Raises :class:`NoDatabase`.
        """
        session = cls(await hosts.connect(_MOST_PREPARED))
        settings = _SETTINGS | {
            "application_name": name,
            "lock_timeout": lock_timeout,
            "idle_in_transaction_session_timeout": LOCK_TIMEOUT if name == NODE else lock_timeout,
        }
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await session.fetch(_SET, list(settings), list(settings.values()))
                (row,) = await session.fetch(_IS_SET, list(settings), list(settings.values()))
        except (Refused, Unknown, TimeoutError) as error:
            session.terminate()
            raise NoDatabase(f"{hosts.url}: a session cannot be set up: {error}") from None
        except BaseException:
            session.terminate()
            raise
        if row["lost"]:
            session.terminate()
            lost = ", ".join(row["lost"])
            raise NoDatabase(f"{hosts.url}: what is set for a session is not kept: {lost}")
        session.server = row["server"]
        session._watch_silence()
        return session

    def _watch_silence(self) -> None:
        """End waits for a peer that is gone without a word."""
        transport = getattr(self._connection, "_transport")  # noqa: B009 - the driver's own
        end = transport.get_extra_info("socket")
        if end is not None and end.family != getattr(socket, "AF_UNIX", None):
            option = getattr(socket, "TCP_USER_TIMEOUT", None)
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _KEEPALIVE.items():
                    if hasattr(socket, name):
                        end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                if option is not None:
                    end.setsockopt(socket.IPPROTO_TCP, option, SILENCE_MS)

    async def is_lost(self) -> None:
        """Return when there is no connection any more."""
        lost = asyncio.Event()
        self._connection.add_termination_listener(lambda _: lost.set())
        if not self._connection.is_closed():
            await lost.wait()

    async def fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run a statement; goes on if its caller is cancelled, and then the session is not his."""
        return await self._steadily(self._connection.fetch(sql, *arguments))

    async def prepare(self, statements: Iterable[str]) -> None:
        """Have statements prepared before they are needed in a transaction.

        The driver ends the message that prepares one with a flush and no sync.  A server that waits
        for what comes then does not count as idle in a transaction: it would hold its locks for a
        node that is cut off there, whatever ``idle_in_transaction_session_timeout`` says.
        """
        prepare = getattr(self._connection, "_get_statement")  # noqa: B009 - the driver's own
        for statement in statements:
            await self._steadily(prepare(statement, None))

    async def run(self, script: str) -> str:
        """Run several statements without arguments; what the server says of the last one."""
        return await self._steadily(self._connection.execute(script))

    async def _steadily(self, work: Coroutine[Any, Any, _T]) -> _T:
        self._not_replicated = False
        try:
            result = await steadily(work)
        except asyncpg.PostgresError as error:
            severity = getattr(error, "severity_en", None)
            was_sent = severity is not None or not isinstance(error, asyncpg.DataError)
            code = error.sqlstate or ""
            was_refused = severity == "ERROR" and not code.startswith(_OF_CONNECTIONS)
            if was_refused or not was_sent:  # the driver has no way to say such a value
                raise Refused(code, str(error)) from error
            raise Unknown(str(error)) from None
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            # internal: the server has said goodbye, and the end of the connection is still to come
            raise Unknown(str(error)) from None
        if self._not_replicated:
            raise Unknown("a commit did not wait for the standbys")
        return result

    def _noticed(self, _: object, message: object) -> None:
        if getattr(message, "server_source_function", None) == _NOT_REPLICATED:
            self._not_replicated = True

    async def listen(self, channel: str, heard: Callable[[str], None]) -> None:
        """Be told of what is said on a channel."""
        told = self._connection.add_listener(channel, lambda *about: heard(about[-1]))
        await self._steadily(told)

    def terminate(self) -> None:
        """Close the socket; what is under way there goes on."""
        self._connection.terminate()
