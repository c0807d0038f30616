"""What commits wait for, as the database says it, and commands that see whether theirs did."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.postgres.sessions import Refused, Unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from durable_streams.postgres.sessions import Session

ASK: Final = """
select current_setting('synchronous_standby_names') as names, pg_conf_load_time() as loaded,
 pg_postmaster_start_time() as started
"""
"""Asks for what :class:`Said` has."""


class Said(NamedTuple):
    """Names of standbys, when the configuration was read, and when the server was started."""

    names: str
    loaded: object
    started: object


async def are_waited_for(session: Session) -> bool:
    """Whether commits wait for standbys now, for who is no node."""
    (now,) = await session.fetch(ASK)
    return bool(now["names"])


@asynccontextmanager
async def waited_for(session: Session, *, as_before: bool = False) -> AsyncIterator[None]:
    """For who is no node: ``Unknown`` at the end if what was committed here may be on no standby.

    Where none is waited for all the time, none is asked of, unless there were some ``as_before``.
    """
    (before,) = await session.fetch(ASK)
    yield
    try:
        (after,) = await session.fetch(ASK)
    except Refused as error:  # the commit was not
        raise Unknown(str(error)) from None
    if Said(**before) != Said(**after) or (as_before and not after["names"]):
        raise Unknown("commits may not have waited for standbys")
