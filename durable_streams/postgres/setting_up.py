"""What makes a database one of streams, and says whether it is one."""

from __future__ import annotations

from durable_streams.postgres import schema
from durable_streams.postgres.sessions import NotASession, Refused, Session, Unknown


async def initialise(url: str) -> bool:
    """Make the tables; False if they are there.  :class:`NotASession` says why that failed."""
    session = await Session.open(url)
    try:
        if await version(session) is not None:
            return False
        await session.run(f"begin; {schema.CREATE} commit")
    except (Refused, Unknown) as error:
        raise NotASession(f"the tables cannot be made: {error}") from None
    finally:
        session.terminate()
    return True


async def version(session: Session) -> int | None:
    """The version of the tables; None if there are none."""
    try:
        (row,) = await session.fetch("select version from ds.meta")
    except Refused as error:
        if error.code in {"42P01", "3F000"}:  # no such table, no such schema
            return None
        raise
    found: int = row["version"]
    return found
