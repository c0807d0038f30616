"""Tokens that all nodes share, as rows of the database; what they mean others know.

Whoever changes them is alone, and sees all of them first.  Imports nothing that needs the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Fetch = Callable[..., Awaitable[Sequence[Any]]]

_ALL: Final = "select id, digest, record from ds.tokens order by id"

STATE: Final = """
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
