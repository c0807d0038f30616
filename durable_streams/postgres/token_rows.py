"""Tokens that all nodes share, as rows of the database; what they mean others know.

Whoever changes them is alone, and sees all of them first.  What is told is on a quorum.
Imports nothing that needs the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import asyncpg

    from durable_streams.postgres.readers import Readers
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.standbys import Standbys
    from durable_streams.postgres.transactions import Transaction, Transactions

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

_T = TypeVar("_T")

_ALL: Final = "select id, digest, record from ds.tokens order by id"

_STATE: Final = """
select count(*) as number,
 coalesce(sum(hashtextextended(id || ' ' || digest || ' ' || record, 0)), 0)::text as state
 from ds.tokens
"""
"""Another one whenever any token is."""

_ALONE: Final = "select pg_advisory_xact_lock(7310579661349056102)"
"""Until its end a transaction is the only one that changes tokens; the number is any."""

_ADD: Final = "insert into ds.tokens (id, digest, record) values ($1, $2, $3)"
_REMOVE: Final = "delete from ds.tokens where id = $1"

STATEMENTS: Final = (_ALONE, _ALL, _ADD, _REMOVE)
"""All that a change uses."""

_PLACE: Final = ("tokens",)
"""Of all changes, so that those of a node follow each other."""


class TokenRow(NamedTuple):
    """A token as the table has it."""

    id: str
    digest: str
    record: str


async def added(fetch: Fetch, row: TokenRow, look: Callable[[Sequence[TokenRow]], None]) -> None:
    """Add one, in a transaction; ``look`` is called with those there are, and may raise."""
    await fetch(_ALONE)
    look(await every(fetch))
    await fetch(_ADD, *row)


async def removed(fetch: Fetch, identity: str, look: Callable[[Sequence[TokenRow]], None]) -> None:
    """Remove one; ``look``: as that of :func:`added`."""
    await fetch(_ALONE)
    look(await every(fetch))
    await fetch(_REMOVE, identity)


async def every(fetch: Fetch) -> list[TokenRow]:
    """All of them."""
    return [TokenRow(*record) for record in await fetch(_ALL)]


class TokenRows:
    """Those that a node has seen, and changes through it."""

    def __init__(self, readers: Readers, standbys: Standbys, transactions: Transactions) -> None:
        self._readers = readers
        self._standbys = standbys
        self._transactions = transactions

    async def read(self, known: object) -> tuple[object, list[TokenRow]] | None:
        """All tokens, with what to call their state; None if that is the one ``known``."""

        async def work(session: Session) -> tuple[object, list[TokenRow]] | None:
            ((number, state),) = await session.fetch(_STATE)
            if (number, state) == known:
                return None
            rows = await every(session.fetch)
            await self._standbys.barrier(session)
            return (number, state), rows

        return await self._readers.do(work)

    async def change(
        self, work: Callable[[Fetch], Awaitable[_T]], done: Callable[[_T], None]
    ) -> _T:
        """Do :func:`added` or :func:`removed`, and ``done`` at once when that is durable."""

        async def alone(transaction: Transaction) -> _T:
            return await work(transaction.fetch)

        return await self._transactions.run(_PLACE, alone, done)
