"""Keys of signed URLs that all nodes share, as rows of the database; what they mean others know.

The newest one signs.  Whoever changes them is alone, and sees all of them first.  Imports nothing
that needs the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Fetch = Callable[..., Awaitable[Sequence[Any]]]

_ALL: Final = "select id, secret from ds.signing_keys order by number desc"

STATE: Final = """
select count(*) as number,
 coalesce(sum(hashtextextended(number || ' ' || id || ' ' || secret, 0)), 0)::text as state
 from ds.signing_keys
"""
"""Another one whenever any key is."""

_ALONE: Final = "select pg_advisory_xact_lock(7310579661349056103)"
"""Until its end a transaction is the only one that changes keys; the number is any."""

_ADD: Final = """
insert into ds.signing_keys (id, secret, number)
 select $1, $2, coalesce(max(number), 0) + 1 from ds.signing_keys
"""
_REMOVE: Final = "delete from ds.signing_keys where id = $1"


class KeyRow(NamedTuple):
    """A key as the table has it; ``secret`` is base64url."""

    id: str
    secret: str


async def added(fetch: Fetch, row: KeyRow, look: Callable[[Sequence[KeyRow]], None]) -> None:
    """Add one, in a transaction; ``look`` is called with those there are, and may raise."""
    await fetch(_ALONE)
    look(await every(fetch))
    await fetch(_ADD, *row)


async def removed(fetch: Fetch, identity: str, look: Callable[[Sequence[KeyRow]], None]) -> None:
    """Remove one; ``look``: as that of :func:`added`."""
    await fetch(_ALONE)
    look(await every(fetch))
    await fetch(_REMOVE, identity)


async def every(fetch: Fetch) -> list[KeyRow]:
    """All of them, the newest one first."""
    return [KeyRow(*record) for record in await fetch(_ALL)]
