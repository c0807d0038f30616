"""Live readers: told of what this node writes at once, and of what others write as soon as may be.

What another node wrote is read back, so what readers are handed is what is stored, in order.  That
something was written is told by notifications, many in one, which may be lost; so streams that
somebody waits for are looked at every second as well.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamDamaged, StreamError, StreamGone, StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.model.results import Publication
from durable_streams.postgres.decisions import why_unusable
from durable_streams.postgres.reading import Reading, RunCache
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from durable_streams.postgres.database import Clock
    from durable_streams.postgres.decisions import Plan
    from durable_streams.postgres.endings import Buried
    from durable_streams.postgres.holds import Holds
    from durable_streams.postgres.notices import Notices
    from durable_streams.postgres.readers import Readers, Rows
    from durable_streams.postgres.rows import Row
    from durable_streams.postgres.streams import Stream, Streams
    from durable_streams.postgres.tasks import Tasks

POLL_S: Final = 1.0
"""Between two looks at streams that somebody waits for."""

_TICK_S: Final = 0.25
"""Between two looks at which of them have expired by now."""

_READ_BYTES: Final = MIB
"""In a publication of what another node wrote."""

_VERSIONS: Final = "select id, version from ds.streams where id = any($1::bigint[])"

log = logging.getLogger("durable_streams.postgres")


class Following:
    """Tells the live readers of a node, and other nodes, by ``notices``, what to look at."""

    def __init__(
        self,
        streams: Streams,
        rows: Rows,
        readers: Readers,
        runs: RunCache,
        clock: Clock,
        *,
        holds: Holds,
        notices: Notices,
        tasks: Tasks,
    ) -> None:
        self._streams = streams
        self._rows = rows
        self._readers = readers
        self._runs = runs
        self._clock = clock
        self._holds = holds
        self._notices = notices
        self._tasks = tasks
        self._looking: set[int] = set()
        self._again: set[int] = set()
        tasks.lasting("live readers", self._run())

    # -- what is told ----------------------------------------------------------------------

    def written(self, stream: Stream, before: Row, plan: Plan) -> None:
        """This node has moved a stream, of which it was told by nobody else."""
        self._notices.say(stream.number, plan.row)
        if not stream.audience:
            return
        stream.audience.wake()
        if not stream.audience.subscribers:
            return
        if stream.published != before.tail or stream.number in self._looking:
            self.look(stream)
            return
        after, run = plan.row, plan.run
        data = b"" if run is None else b"".join(run.data)
        self._publish(stream, Publication(before.tail, after.tail, data, after.closed))

    def buried(self, buried: Buried | None) -> None:
        """This node has ended streams, or one only for its forks."""
        if buried is None:
            return
        for number in buried.removed:
            self._ended(number, StreamNotFound)
        if buried.kept is not None:
            self._ended(buried.kept, StreamGone)

    def _ended(self, number: int, reason: type[StreamNotFound | StreamGone]) -> None:
        self._notices.say(number, None)
        stream = self._streams.numbered(number)
        if stream is not None:
            self._streams.end(number, reason(path_text(stream.path)))

    def noticed(self, stream: Stream) -> None:
        """A row was read: if readers were told less, they are told now."""
        if stream.audience and (
            stream.row.tail > stream.published or stream.row.closed != stream.published_closed
        ):
            stream.audience.wake()
            if stream.audience.subscribers:
                self.look(stream)

    def heard(self, marks: dict[int, str]) -> None:
        """Another node has moved these streams, or ended them; a quorum has what is marked."""
        for number, mark in marks.items():
            stream = self._streams.numbered(number)
            if stream is not None:
                if stream.producers is not None:
                    self._notices.ask(number)  # both nodes write to it
                stream.told = mark
                stream.is_stale = True
                stream.producers = None  # who writes to it looks first, and loses no race for it
                if stream.audience:
                    self.look(stream)

    def asked(self, numbers: list[int]) -> None:
        """Another node wants to be told of these streams, and may have missed something."""
        for number in numbers:
            if self._streams.numbered(number) is not None:
                self._notices.say(number, None)

    def came(self, stream: Stream) -> None:
        """Somebody waits for what comes to a stream from now on."""
        self._streams.live[stream.number] = stream
        self._notices.ask(stream.number)
        if stream.is_stale:
            self.look(stream)

    @staticmethod
    def _publish(stream: Stream, publication: Publication) -> None:
        stream.published, stream.published_closed = publication.end, publication.closed
        stream.audience.publish(publication)

    # -- looking ---------------------------------------------------------------------------

    def is_looking(self, stream: Stream) -> bool:
        """Whether readers are being told of what was read back."""
        return stream.number in self._looking

    def look(self, stream: Stream) -> None:
        """Read what there is, and tell those who wait."""
        self._again.add(stream.number)
        if stream.number not in self._looking:
            self._looking.add(stream.number)
            self._tasks.once("news", self._look(stream))

    async def _look(self, stream: Stream) -> None:
        number = stream.number
        try:
            while number in self._again:
                self._again.discard(number)
                await self._read_on(stream)
        except StreamError as error:
            log.info("not told what came to a stream, trying again: %s", error)
            stream.is_stale = True
        finally:
            self._again.discard(number)
            self._looking.discard(number)

    async def _read_on(self, stream: Stream) -> None:
        stream.is_stale = False
        row = await self._row_of(stream)
        if row is None:
            return
        if row.tail > stream.row.tail or row.closed != stream.row.closed:
            stream.learn(row)
            stream.audience.wake()
        stream.learn(row)
        try:
            await self._tell(stream, row)
        except StreamDamaged:  # it is none where the stream has ended meanwhile, and is swept
            if await self._row_of(stream) is not None:
                raise

    async def _row_of(self, stream: Stream) -> Row | None:
        """A stream's row; None if it has ended, as its readers are told."""
        row = await self._rows.of(stream)
        problem = why_unusable(stream.path, row, row.now_ms if row else 0)
        if row is not None and problem is None:
            return row
        assert problem is not None
        if row is None or row.soft_deleted:
            self._streams.end(stream.number, problem)
        else:
            stream.audience.end(problem)
        return None

    async def _tell(self, stream: Stream, row: Row) -> None:
        """Hand on to those who subscribed what they have not been told, up to a row's tail."""
        reading = Reading(stream.path, row, self._runs)
        while stream.audience.subscribers and (
            stream.published < row.tail or row.closed != stream.published_closed
        ):
            begin = stream.published
            found = await reading.from_(begin, _READ_BYTES, is_end=True)
            if stream.published != begin or not stream.audience.subscribers:
                continue
            is_closed = row.closed and found.end == row.tail
            self._publish(stream, Publication(begin, found.end, found.data, is_closed))

    # -- from time to time -----------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        next_poll = loop.time() + POLL_S
        while True:
            await asyncio.sleep(_TICK_S)
            live = self._streams.live
            for stream in list(live.values()):
                if not stream.is_live:
                    del live[stream.number]
                elif stream.audience and stream.has_expired(self._clock.now_ms()):
                    self.look(stream)
            await self._write_holds()
            if live and loop.time() >= next_poll:
                next_poll = loop.time() + POLL_S
                await self._poll()

    async def _write_holds(self) -> None:
        """Have what is followed not end, if nobody has read anything meanwhile."""
        try:
            if self._holds.is_due:
                await self._readers.do(self._holds.write)
            if self._holds.is_renewal_due:
                await self._readers.do(self._holds.renew)
        except StreamError as error:
            log.warning("streams that are followed may end: %s", error)

    async def _poll(self) -> None:
        live = dict(self._streams.live)
        self._notices.ask(*live)
        try:
            records = await self._readers.fetch(_VERSIONS, list(live))
        except StreamError as error:
            log.info("live readers are told nothing: %s", error)
            return
        versions = {record["id"]: record["version"] for record in records}
        for number, stream in live.items():
            if versions.get(number) != stream.row.version or stream.is_stale:
                self.look(stream)
