"""What becomes of sessions of the server, seen from outside of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import asyncpg

    from tools.postgres_cluster import PostgresNode

Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

WAITS_FOR_STANDBY = "SyncRep"
"""The wait event of a commit that no standby has acknowledged."""


async def until_it_waits(
    node: PostgresNode, pid: int, event: str = WAITS_FOR_STANDBY, longer_than: str = "0"
) -> None:
    """Return when a session of the server waits for this, and its statement took so long."""
    look = (
        f"select wait_event = '{event}' and clock_timestamp() - query_start > '{longer_than}'"
        f" from pg_stat_activity where pid = {pid}"
    )
    await asyncio.to_thread(node.wait_until, look, "t", f"a session in {event}")


async def until_gone(node: PostgresNode, pid: int) -> None:
    """Return when a session of the server is over."""
    look = f"select count(*) from pg_stat_activity where pid = {pid}"
    await asyncio.to_thread(node.wait_until, look, "0", "a session is over")
