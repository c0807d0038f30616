"""What makes a database one of streams, and whether it can be opened as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.postgres import schema
from durable_streams.postgres.sessions import NotASession, Refused, Session, Unknown

if TYPE_CHECKING:
    from durable_streams.postgres.database import Database


async def initialise(url: str) -> bool:
    """Make the tables; False if they are there.  :class:`NotASession` says why that failed."""
    session = await Session.open(url)
    try:
        if await _has_tables(session):
            return False
        await session.run(f"begin; create schema if not exists ds; {schema.CREATE} commit")
    except (Refused, Unknown) as error:
        raise NotASession(f"the tables cannot be made: {error}") from None
    finally:
        session.terminate()
    return True


async def check(database: Database, *, allow_unreplicated: bool) -> None:
    """:class:`NotASession` if there are no tables, or commits wait for no standby."""
    session = await database.connect()
    try:
        if not await _has_tables(session):
            raise NotASession(
                "the database has no tables of streams: make them with durable-streams store init"
            )
        (row,) = await session.fetch("select current_setting('synchronous_standby_names') as names")
    except (Refused, Unknown) as error:
        raise NotASession(f"the database does not answer: {error}") from None
    finally:
        session.terminate()
    if not row["names"] and not allow_unreplicated:
        raise NotASession(
            "commits of the database wait for no standby, so what it acknowledges may be lost with "
            "one machine: set synchronous_standby_names, or say --store-allow-unreplicated"
        )


async def _has_tables(session: Session) -> bool:
    (row,) = await session.fetch("select to_regclass('ds.streams') is not null as found")
    found: bool = row["found"]
    return found
