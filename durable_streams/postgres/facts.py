"""What a database says of itself, asked once: for :mod:`.checks`, which judge it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_streams.postgres import versions
from durable_streams.postgres.connecting import (
    CONNECT_TIMEOUT_S,
    FAILURES,
    Hosts,
    NoDatabase,
    connect,
    connect_to,
    explained,
)

if TYPE_CHECKING:
    from durable_streams.postgres.connecting import Connection
    from durable_streams.postgres.urls import DatabaseUrl
    from durable_streams.postgres.versions import Version

BARRIER: Final = """
begin; set local synchronous_commit = on; select pg_logical_emit_message(true, '', ''); commit
"""
"""A commit that changes nothing, and waits for the standbys as any other."""

ACKNOWLEDGED_WITHIN_S: Final = 5.0
"""Longer than any commit takes while enough standbys are there."""

_SETTINGS: Final = (
    "autovacuum",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "server_encoding",
    "server_version",
    "server_version_num",
    "synchronous_standby_names",
)

NODE_SESSIONS: Final = 14
"""What a node has at most: for its reads, its writes, its heartbeat, standbys, and news."""

_STANDBYS: Final = """
select
    (select count(*) from pg_stat_replication
     where state = 'streaming' and sync_state in ('sync', 'quorum', 'potential')) as standbys,
    pg_has_role('pg_read_all_stats', 'usage') as sees_them
"""

_RIGHTS: Final = """
with may as (
    select rolname, case when not rolsuper then nullif(rolconnlimit, -1) end as of_user,
        case when not rolsuper then nullif(datconnlimit, -1) end as of_database,
        current_setting('max_connections')::int
            - case when rolsuper then 0
                else current_setting('superuser_reserved_connections')::int end as of_server
    from pg_roles, pg_database
    where rolname = current_user and datname = current_database())
select rolname::text as "user", least(of_user, of_database, of_server) as connections,
    case when to_regnamespace('ds') is null
        then has_database_privilege(current_database(), 'create')
        else has_schema_privilege(to_regnamespace('ds'), 'create') end as may_create,
    array(
        select relname::text from pg_class
        where relnamespace = to_regnamespace('ds') and relkind = 'r'
            and relname not in ('copying', 'copied') and not (
            has_schema_privilege(relnamespace, 'usage')
            and has_table_privilege(oid, 'select') and has_table_privilege(oid, 'insert')
            and has_table_privilege(oid, 'update') and has_table_privilege(oid, 'delete'))
        order by 1
    ) as denied
from may
"""
"""No node looks at ``ds.copying`` and ``ds.copied``, which are of who made a copy there."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a user may do.

    ``connections``: how many, by all limits that are set.  ``may_create``: tables in the schema, or
    that one.  ``denied``: tables that the user may not use.
    """

    user: str
    connections: int
    may_create: bool
    denied: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found.

    ``version``: None if the user may not see it.  ``problems_of_hosts``, ``primaries``: where the
    URL names several hosts.  ``shares_sessions``: something in between does, see below.
    ``ahead_s``: how far the database's clock is ahead of ours, give or take ``asked_for_s``.
    ``acknowledged_ms``: how long a commit took; None: it was not done in time.
    ``standbys``: how many can acknowledge; None: the user may not see that.
    """

    shown: str
    settings: dict[str, str]
    version: Version | None
    problems_of_hosts: tuple[str, ...]
    primaries: int
    shares_sessions: bool
    ahead_s: float
    asked_for_s: float
    acknowledged_ms: float | None
    standbys: int | None
    rights: Rights


async def rights_of(connection: Connection) -> Rights:
    """What the user of a connection may do."""
    row = await connection.fetchrow(_RIGHTS)
    assert row is not None
    return Rights(row["user"], row["connections"], row["may_create"], tuple(row["denied"]))


async def gather(url: DatabaseUrl) -> Facts:
    """Ask a database, and each host of the URL; :class:`NoDatabase`."""
    problems, primaries = await _ask_hosts(url)
    hosts = Hosts(url)
    connection = await hosts.connect()
    try:
        return await _ask(hosts, connection, problems, primaries)
    except FAILURES as error:
        raise NoDatabase(explained(error, url)) from None
    finally:
        connection.terminate()


async def _ask(hosts: Hosts, connection: Connection, problems: list[str], primaries: int) -> Facts:
    shares = await shares_sessions(hosts, connection)
    ahead_s, asked_for_s = await _clock(connection)
    row = await connection.fetchrow(_STANDBYS)
    assert row is not None
    rights = await rights_of(connection)
    return Facts(
        shown=f"{hosts.url}",
        settings={name: await connection.fetchval(f"show {name}") for name in _SETTINGS},
        version=None if "versions" in rights.denied else await versions.read(connection.fetch),
        problems_of_hosts=tuple(problems),
        primaries=primaries,
        shares_sessions=shares,
        ahead_s=ahead_s,
        asked_for_s=asked_for_s,
        acknowledged_ms=await _acknowledged_ms(connection),
        standbys=row["standbys"] if row["sees_them"] else None,
        rights=rights,
    )


async def need_acknowledgements(url: DatabaseUrl) -> None:
    """:class:`NoDatabase` if commits of a database are not acknowledged now, and would wait."""
    connection = await connect(url)
    try:
        acknowledged_ms = await _acknowledged_ms(connection)
    except FAILURES as error:
        raise NoDatabase(explained(error, url)) from None
    finally:
        connection.terminate()
    if acknowledged_ms is None:
        raise NoDatabase(
            f"{url}: no commit is acknowledged now, so nothing was changed: see to it that the "
            "standbys run and are connected"
        )


async def _ask_hosts(url: DatabaseUrl) -> tuple[list[str], int]:
    """What is wrong with hosts of a list, and how many of them take writes."""
    problems, primaries = [], 0
    hosts = url.each_host()
    for host in hosts if len(hosts) > 1 else ():
        try:
            connection = await connect_to(host)
        except NoDatabase as error:
            problems.append(f"{error}")
            continue
        try:
            primaries += not await connection.fetchval(
                "select pg_is_in_recovery()", timeout=CONNECT_TIMEOUT_S
            )
        except FAILURES as error:
            problems.append(explained(error, host))
        finally:
            connection.terminate()
    return problems, primaries


async def shares_sessions(hosts: Hosts, connection: Connection) -> bool:
    """Whether something in between gives a session of the server to several clients in turn.

    Then another client, in a transaction, is in ours while we are in none, or we are in another
    one afterwards.  A pooler refuses transactions altogether if it shares single statements.
    """
    for _ in range(3):
        other = await hosts.connect()
        try:
            before = await _server_process(connection)
            async with other.transaction():
                theirs: int = await other.fetchval("select pg_backend_pid()")
            if theirs == before or await _server_process(connection) != before:
                return True
        finally:
            other.terminate()
    return False


async def _server_process(connection: Connection) -> int:
    async with connection.transaction():  # its statements at least are of one session
        found: int = await connection.fetchval("select pg_backend_pid()")
    return found


async def _clock(connection: Connection) -> tuple[float, float]:
    """How far the database's clock is ahead, and how long it took to ask."""
    before_s = time.time()
    theirs: float = await connection.fetchval(
        "select extract(epoch from clock_timestamp())::float8"
    )
    after_s = time.time()
    return theirs - (before_s + after_s) / 2, after_s - before_s


async def _acknowledged_ms(connection: Connection) -> float | None:
    """How long a commit waits for the standbys, which is what all of this is about.

    One that is not acknowledged in time is cancelled, which matters of this one alone: it is
    empty.  Its success is none then, and the session is not used again.
    """
    begun_s = time.monotonic()
    try:
        await connection.execute(BARRIER, timeout=ACKNOWLEDGED_WITHIN_S)
    except TimeoutError:
        return None
    return (time.monotonic() - begun_s) * 1000
