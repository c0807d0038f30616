"""Tokens and keys of a database, for who is no node: the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from durable_streams.postgres import versions
from durable_streams.postgres.connecting import Hosts, NoDatabase
from durable_streams.postgres.facts import need_acknowledgements
from durable_streams.postgres.sessions import (
    COMMAND,
    LOCK_TIMEOUT,
    Refused,
    Session,
    Unknown,
)
from durable_streams.postgres.waits import waited_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.postgres.token_rows import Fetch
    from durable_streams.postgres.urls import DatabaseUrl

_T = TypeVar("_T")


async def change_alone(url: DatabaseUrl, work: Callable[[Fetch], Awaitable[_T]]) -> _T:
    """Do ``added`` or ``removed`` of ``token_rows`` or ``key_rows``, or look at all.

    :class:`NoDatabase` says that it was not done, or that nobody knows.
    """
    await need_acknowledgements(url)
    session = await Session.open(Hosts(url), lock_timeout=LOCK_TIMEOUT, name=COMMAND)
    try:
        async with waited_for(session):
            misfit = await versions.misfit(session.fetch)
            if misfit is not None:
                raise NoDatabase(f"{url}: {misfit.value}")
            await session.fetch("begin")
            result = await work(session.fetch)
            await session.fetch("commit")
    except Refused as error:
        raise NoDatabase(f"{url}: nothing was changed: {error}") from None
    except Unknown as error:
        raise NoDatabase(
            f"{url}: whether it was done is not known ({error}): look at the list"
        ) from None
    finally:
        session.terminate()
    return result
