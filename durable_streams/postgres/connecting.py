"""Connections for whoever sets a database up, and what to tell when there is none.

For nodes that serve streams there is more to a session.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from durable_streams.postgres.urls import together

if TYPE_CHECKING:
    from durable_streams.postgres.urls import DatabaseUrl

    Connection = asyncpg.Connection[asyncpg.Record]

CONNECT_TIMEOUT_S: Final = 5.0
"""For each host: one of which nothing is heard does not take the time of the others."""


FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # where the server has said goodbye, and its end is still to come
    OSError,
)
"""What statements and connections fail with."""


class NoDatabase(Exception):
    """A database cannot be used; the text is one line for the user, without any secret.

    ``is_read_only``: it is there, and takes no writes.
    """

    def __init__(self, text: str, *, is_read_only: bool = False) -> None:
        super().__init__(text)
        self.is_read_only = is_read_only


_TAKES_WRITES: Final = """
select not pg_is_in_recovery() and not current_setting('default_transaction_read_only')::boolean
"""

_STARTED: Final = "select pg_postmaster_start_time()"
"""Which server it is."""

_TIMELINE: Final = "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"


class Hosts:
    """Those of a URL: whichever took no writes, or did not answer, is tried last from then on.

    So one of which nothing is heard costs its time once, not with each session.
    """

    def __init__(self, url: DatabaseUrl) -> None:
        self.url = url
        self._in_order = url.each_host()

    async def connect(self, statements: int = 0) -> Connection:
        """A session on the one that takes writes; :class:`NoDatabase` says why there is none.

        ``statements``: how many it keeps prepared; 0 where a pooler in between may share sessions.
        """
        problems: dict[DatabaseUrl, NoDatabase] = {}
        for host in list(self._in_order):
            try:
                connection = await _connect_to_primary(host, statements)
            except NoDatabase as error:
                problems[host] = error
            else:
                self._in_order.sort(key=lambda one: one in problems)
                return connection
        raise NoDatabase(
            self._told(problems),
            is_read_only=any(problem.is_read_only for problem in problems.values()),
        )

    def _told(self, problems: dict[DatabaseUrl, NoDatabase]) -> str:
        """What is wrong with all hosts, in their order: each thing once."""
        alike: dict[str, list[DatabaseUrl]] = {}
        for host in self.url.each_host():
            alike.setdefault(f"{problems[host]}".removeprefix(f"{host}"), []).append(host)
        return "; ".join([f"{together(hosts)}{problem}" for problem, hosts in alike.items()])

    async def choose_other(self, than: object) -> object:
        """Try first, from now on, another server than one that has fallen silent; None: no other.

        Servers are known by when they were started.  Of several that take writes it is the one on
        the newest timeline, which is that of the last one that was promoted.
        """
        asked = await asyncio.gather(*[_ask(host) for host in self._in_order])
        others = [
            (timeline, server, host)
            for host, (server, timeline) in zip(self._in_order, asked, strict=True)
            if server not in {None, than}
        ]
        if not others:
            return None
        _, server, chosen = max(others, key=lambda other: other[0])
        self._in_order.sort(key=lambda one: one is not chosen)
        return server


async def _ask(host: DatabaseUrl) -> tuple[object, str]:
    """When the server was started that takes writes at a host, None if none does; its timeline."""
    try:
        connection = await _connect_to_primary(host, 0)
    except NoDatabase:
        return None, ""
    server, timeline = None, ""
    try:
        with suppress(*FAILURES, TimeoutError):  # not every service tells its timeline
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                server = await connection.fetchval(_STARTED)
                timeline = await connection.fetchval(_TIMELINE)
    finally:  # cancelled as well
        connection.terminate()
    return server, timeline


async def connect(url: DatabaseUrl) -> Connection:
    """A session on the host that takes writes; :class:`NoDatabase` says why there is none."""
    return await Hosts(url).connect()


async def _connect_to_primary(host: DatabaseUrl, statements: int) -> Connection:
    connection = await connect_to(host, statements)
    try:
        if await connection.fetchval(_TAKES_WRITES, timeout=CONNECT_TIMEOUT_S):
            return connection
    except FAILURES as error:
        connection.terminate()
        raise NoDatabase(explained(error, host)) from None
    except BaseException:  # cancelled, say
        connection.terminate()
        raise
    connection.terminate()
    raise NoDatabase(
        f"{host} takes no writes: it is a standby, or default_transaction_read_only is on; "
        "name the primary, or all hosts",
        is_read_only=True,
    )


async def connect_to(host: DatabaseUrl, statements: int = 0) -> Connection:
    """A session on a host, primary or standby; :class:`NoDatabase`."""
    try:
        return await asyncpg.connect(
            host.text,
            timeout=CONNECT_TIMEOUT_S,
            statement_cache_size=statements,
            max_cached_statement_lifetime=0,  # once prepared they stay, see Session.prepare
        )
    except (*FAILURES, ValueError) as error:
        raise NoDatabase(explained(error, host)) from None


_NO_ANSWER: Final = (
    f"no answer within {CONNECT_TIMEOUT_S:g} s: look at hosts and networks, and at a pooler in "
    "between, which may have no session left"
)
_EXPLAINED: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.InvalidCatalogNameError, "there is no such database: make it with createdb"),
    (
        asyncpg.InvalidPasswordError,
        "the user is not let in: give the password by PGPASSWORD or in a file, PGPASSFILE",
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        "the user is not let in: look at the name, at pg_hba.conf, and at sslmode",
    ),
    (asyncpg.CannotConnectNowError, "it is starting or stopping: try again in a moment"),
    (asyncpg.TooManyConnectionsError, "no connection is left: raise max_connections, or a limit"),
    (asyncpg.DiskFullError, "its disk is full: make room there"),
    (
        asyncpg.ReadOnlySQLTransactionError,
        "it takes no writes: name the primary in the URL, or all hosts",
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        "the user may not do that: let who owns the database do it, or grant it",
    ),
    (asyncpg.PostgresConnectionError, "the connection was lost: look at the database's log"),
    (TimeoutError, _NO_ANSWER),
    (
        ssl.SSLError,
        "its certificate is not taken: look at sslrootcert, sslmode and its name",
    ),
    (FileNotFoundError, "no socket of it is there, or no file that sslrootcert or sslcert names"),
    (OSError, "it is not reached: look at host and port, and whether it runs"),
    (asyncpg.ClientConfigurationError, "the URL, or a PG... variable, is not understood"),
    (ValueError, "the URL, or a PG... variable, is not understood"),
)
"""The first that fits: what it means and what to do."""

_OF_DRIVER: Final = {
    "rejected SSL upgrade": "it speaks no TLS: have ssl = on there, or another sslmode",
    "root certificate file": "sslmode wants a certificate to compare with: name its file by "
    "sslrootcert",
}
"""What the driver says in words alone, and what that means."""


def explained(error: Exception, url: DatabaseUrl) -> str:
    """What is wrong with a database, in a line, without any secret."""
    for words, text in _OF_DRIVER.items():
        if words in str(error) and not isinstance(error, asyncpg.PostgresError):
            return f"{url}: {text}"
    for kind, text in _EXPLAINED:
        if isinstance(error, kind):
            return f"{url}: {text}{_said(error)}"
    return f"{url}: {' '.join(str(error).split()) or type(error).__name__}"


_OF_OTHERS: Final = (socket.gaierror, ssl.SSLError)
"""Whose numbers are not those of the system."""


def _said(error: Exception) -> str:
    """In brackets, what the server or the system says itself; not the driver, who quotes URLs."""
    text = str(error) if isinstance(error, asyncpg.PostgresError | OSError) else ""
    if isinstance(error, OSError) and error.errno and not isinstance(error, _OF_OTHERS):
        text = os.strerror(error.errno)  # without the address, which the URL has
    text = " ".join(text.split())
    return f" ({text})" if text else ""
