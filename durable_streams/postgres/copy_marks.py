"""By what everybody knows of a database that a copy is made in it, or was.

``ds.copying`` says of which source, and is called ``ds.copied`` once all is there; until then
``ds.versions`` has a version that no program knows.  A copy begins where nobody has streams: as no
node is to be seen, and behind all who wrote nevertheless, with whose lanes it ends what they may
write later (:mod:`.fencing`).
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from durable_streams.postgres import versions
from durable_streams.postgres.copied_streams import need_no_nodes
from durable_streams.postgres.sessions import Refused
from durable_streams.postgres.statements import BARRIER
from durable_streams.postgres.versions import Fit
from durable_streams.postgres.waits import waited_for
from durable_streams.transfers import Done, InUse, NotUsable, Occupied

if TYPE_CHECKING:
    from durable_streams.postgres.sessions import Session
    from durable_streams.postgres.urls import DatabaseUrl

_ONE_AT_A_TIME: Final = "select pg_try_advisory_lock(7310579661349056104)"
"""For as long as its session lasts, there is no other copy; the number is any."""

_BEGUN: Final = "select to_regclass('ds.copying') is not null"
_ENDED: Final = "select to_regclass('ds.copied') is not null"
_OF_SAME: Final = "select state from ds.copied where source = $1"
_WHOSE: Final = "select source, salt from ds.copying"
_IS_USED: Final = "select exists(select from ds.streams) or exists(select from ds.runs)"
_ALONE: Final = f"begin; {versions.ALONE}; set local lock_timeout = '2s'; {versions.FENCE}"
_BEGIN: Final = f"""
drop table if exists ds.copied;
create table ds.copying (source text not null, salt text not null, state text not null);
insert into ds.copying values ('{{source}}', '{{salt}}', '');
insert into ds.versions (version, needs) values ({versions.COPYING}, {versions.COPYING});
commit
"""  # noqa: S608 - of constants, and of what is checked to be digits and the like
TAKEN_BACK: Final = (
    f"drop table ds.copying; delete from ds.versions where version = {versions.COPYING}"  # noqa: S608 - a constant
)
"""What undoes that by hand, where nothing was copied yet."""

EMPTIED: Final = "drop schema ds cascade"
"""And where something was."""

END: Final = f"""
begin; {versions.ALONE};
update ds.copying set state = '{{state}}'; alter table ds.copying rename to copied;
delete from ds.versions where version = {versions.COPYING};
commit
"""  # noqa: S608 - of constants, and of hexadecimal digits
"""A script that lets nodes serve it."""


async def begin(session: Session, url: DatabaseUrl, source: str) -> tuple[str, bool]:
    """The salt of a copy that is begun, or goes on, and whether it does.

    Whatever it raises, the session is of no use any more: :class:`Done`, :class:`Occupied`,
    :class:`InUse`, :class:`NotUsable`, and what sessions do.
    """
    ((is_ours,),) = await session.fetch(_ONE_AT_A_TIME)
    if not is_ours:
        raise InUse(f"{url}: another copy into it is under way")
    ((is_done,),) = await session.fetch(_ENDED)
    if is_done:
        for row in await session.fetch(_OF_SAME, source):
            async with waited_for(session):
                await session.fetch(BARRIER)
            raise Done(str(url), row["state"])
    ((is_begun,),) = await session.fetch(_BEGUN)
    if is_begun:
        (row,) = await session.fetch(_WHOSE)
        if row["source"] != source:
            raise Occupied(
                f"{url} has a copy of something else that was not ended: end that, or empty it "
                f"({EMPTIED}), or give another database"
            )
        return str(row["salt"]), True
    fit = (await versions.read(session.fetch)).fit()
    if fit is not Fit.FITS:
        raise NotUsable(f"{url}: {fit.value}")
    return await _begin_anew(session, url, source), False


async def _begin_anew(session: Session, url: DatabaseUrl, source: str) -> str:
    await _need_no_streams(session, url)
    await need_no_nodes(session, url)
    try:
        await session.run(_ALONE)
    except Refused as error:
        raise InUse(f"{url}: somebody writes there: {error}") from None
    await _need_no_streams(session, url)  # nor did somebody make one meanwhile, and leave
    salt = secrets.token_hex(8)
    await session.run(_BEGIN.format(source=source, salt=salt))
    await need_no_nodes(session, url)  # nor did one begin a moment before
    return salt


async def _need_no_streams(session: Session, url: DatabaseUrl) -> None:
    ((is_used,),) = await session.fetch(_IS_USED)
    if is_used:
        raise Occupied(
            f"{url} has streams already: a copy is made in a database without any: make one with "
            f"createdb, or empty this one ({EMPTIED})"
        )
