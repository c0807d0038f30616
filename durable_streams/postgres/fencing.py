"""Who wrote what: sessions that write, and what becomes of writes whose outcome nobody knows.

Each session that writes has a row in ``lanes``, made by a commit before its first write, and used
by nobody else.  Each of its writes first locks that row where its number is the one before, writes
only if it got it, and leaves the new number, and which streams moved.  So whoever locks the row
knows how far the session came, and whoever deletes it knows that it comes no further, however late
its statements arrive: one that finds no row writes nothing.  So a step of :mod:`.versions` that a
node cannot bear ends its lanes; whether it may begin another one is asked behind that one's commit.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Final

from durable_streams.postgres import versions
from durable_streams.postgres.connecting import NoDatabase
from durable_streams.postgres.sessions import Refused, Session, Unknown
from durable_streams.postgres.statements import BARRIER

if TYPE_CHECKING:
    from durable_streams.postgres.database import Database
    from durable_streams.postgres.standbys import Standbys

_AGAIN_S: Final = 0.1
"""Before another try where the database is not there."""

BEGIN_LANE: Final = "insert into ds.lanes (lane, node) values ($1, $2)"
LOOK_AT_LANE: Final = "select batch, won from ds.lanes where lane = $1 for update"
END_LANE: Final = "delete from ds.lanes where lane = $1"

log = logging.getLogger("durable_streams.postgres")


class Lane:
    """A session that writes; ``number`` is that of its next write."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.id = uuid.uuid4()
        self.number = 1

    @classmethod
    async def begin(cls, session: Session, node: uuid.UUID) -> Lane:
        """Make the row of a session of a node that was just opened.

        ``Unknown`` if that failed; ``NoDatabase`` if the node may not write any more.
        """
        lane = cls(session)
        try:
            await session.fetch(BEGIN_LANE, lane.id, node)
            misfit = await versions.misfit(session.fetch)
            if misfit is not None:
                raise NoDatabase(misfit.value)
        except BaseException:  # nobody has it yet
            session.terminate()
            raise
        return lane


async def settle(
    database: Database, standbys: Standbys, lane: Lane
) -> tuple[int, list[int]] | None:
    """End a lane, and say what its last write was: its number, and the streams that moved.

    What it says is on a quorum.  None: somebody else has ended the lane; nobody does.
    A try that fails is repeated until one does not, as nothing else is an answer.
    """
    lane.session.terminate()
    database.counted.unknown += 1
    found: tuple[int, list[int]] | None = None
    told = ""
    while True:
        session: Session | None = None
        try:
            mark = standbys.mark
            session = await database.connect()
            await session.prepare((LOOK_AT_LANE, END_LANE, BARRIER, "commit"))
            await session.fetch("begin")
            rows = await session.fetch(LOOK_AT_LANE, lane.id)
            if rows:
                await session.fetch(END_LANE, lane.id)
                # Before, it is undone where the session is lost, and the write may still come.
                found = (rows[0]["batch"], rows[0]["won"])
            else:  # an earlier try of ours has deleted it; its commit is waited for
                await session.fetch(BARRIER)
            await session.fetch("commit")
            if await standbys.still_wait(mark, session):
                return found
            problem = "commits do not wait"
        except (NoDatabase, Refused, Unknown) as error:
            problem = str(error)
        finally:
            if session is not None:
                session.terminate()
        if problem != told:  # it may last for hours, and is tried ten times a second
            log.warning("what became of a write is not known yet: %s", problem)
            told = problem
        await asyncio.sleep(_AGAIN_S)
