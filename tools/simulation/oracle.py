"""What must be true after any crash, told by somebody who watched every request and answer.

Every append carries a token of its own.  From the answers the oracle knows of each token whether
it has to be there (acknowledged, or seen by a reader), must not be (refused), or may be; and the
same of each stream (see :mod:`tools.simulation.history`).
After each recovery :meth:`Oracle.check` reads everything back, compares, and settles what was open:
from then on it is either there for ever or never.

Where acknowledgements do not wait for the disk, a power cut opens again what was settled since the
last recovery (:meth:`Oracle.lose`): each stream may then have ended at any earlier append.

It is long because one who has watched everything judges it: what is known of an append, of its
stream and of the forks and successors of that is settled in one go.
"""

from __future__ import annotations

from itertools import pairwise, takewhile
from operator import eq
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.model.commands import Append, ProducerClaim
from durable_streams.model.errors import (
    InvalidOffset,
    OffsetGone,
    ProducerGap,
    SequenceConflict,
    StaleEpoch,
    StreamClosed,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import ZERO, Offset
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.producers import IDLE_MS
from tools.simulation.contents import NUMBER, Run, read, token
from tools.simulation.history import Attempt, Clock, Fate, Incarnation, Piece, Place, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.filestore.store import FileStore
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import StreamRef
    from tools.simulation.disk import SimulatedDisk


class Oracle:
    """The watcher.

    ``disk``: where it looks up what a fork is a fork of.  ``losses``: how often the power took
    what had been acknowledged unsynced.  ``failures``: what went wrong where nobody else hears
    of it.  ``kept_ms``: how long after its end no other stream at a path may share an offset with
    one, as caches may have pieces of it.
    """

    def __init__(self, disk: SimulatedDisk, data: Path, kept_ms: int) -> None:
        self.disk = disk
        self.checked = 0
        self.places: dict[StreamPath, Place] = {}
        self.attempts: dict[int, Attempt] = {}
        self._data = data
        self._kept_ms = kept_ms
        self._by_id: dict[str, Incarnation] = {}
        self._clock = Clock()
        self.losses = 0
        self.failures: list[BaseException] = []
        self._lost = False

    def place(self, path: StreamPath) -> Place:
        """The place at a path."""
        return self.places.setdefault(path, Place(path))

    def visit(self, path: StreamPath, now_ms: int) -> Visit:
        """A request is sent."""
        return Visit(self._clock, self.place(path), now_ms)

    def names(self, incarnation: Incarnation, stream_id: str) -> None:
        """The engine took an id for a stream that is being made."""
        incarnation.id = stream_id
        self._by_id[stream_id] = incarnation

    def first_segment(self, living: Incarnation) -> int | None:
        """Where a stream begins, if that is known."""
        if living.first_segment is None:
            sidecar = self._sidecar(living)
            living.first_segment = None if sidecar is None else sidecar.first
        return living.first_segment

    def known(self, stream_id: str) -> Incarnation:
        """Whose id this is."""
        return self._by_id[stream_id]

    def gone(self, living: Incarnation, now_ms: int) -> None:
        """A reader who had it was told that it is no more."""
        assert living.may_be_gone(now_ms), f"{living.command.path}: acknowledged, and gone"
        living.was_told_gone(now_ms, self._clock.tick(), "one of its readers was told")

    # -- content ---------------------------------------------------------------------------

    def saw(
        self, living: Incarnation, runs: list[Run], now_ms: int, tail: Offset | None = None
    ) -> list[Piece]:
        """A reader got these bytes: they are right, and can never go away again.

        ``tail``: and it began at the beginning, and this was the end.
        """
        if living.inherited is None and tail is not None:
            self._learn(living, runs, now_ms)
        if living.inherited is None:  # and was gone before anybody could tell
            return []
        found = list(self._pieces(living, runs))
        for before, after in pairwise(found):
            attempt = self.attempts.get(before.number)
            own = attempt is not None and living.attempts.get(before.number) is attempt
            assert before.end < after.end, f"offsets go back: {before}, {after}"
            assert not (own and attempt and attempt.closes), f"{after.number} follows the end"
        inherited = set(living.inherited or ())
        for piece in found:
            if piece not in inherited:
                self._saw_own(living, piece, now_ms)
        if tail is not None and living.inherited:
            assert set(found) >= inherited, "not all that it inherited"
        ends = [living.tail, *(piece.end for piece in found)]
        living.tail = max([*ends, tail] if tail is not None else ends)
        return found

    def _saw_own(self, living: Incarnation, piece: Piece, now_ms: int) -> None:
        number = piece.number
        attempt = living.attempts.get(number)
        assert attempt is not None, f"{number} was not sent to this stream"
        assert attempt.fate is not Fate.REFUSED, f"{number} was refused and is there"
        for end in (attempt.end, attempt.told):
            assert end in (None, piece.end), f"{number} ends at {piece.end}, was told {end}"
        attempt.done(living, piece.end, now_ms)

    def _pieces(self, living: Incarnation, runs: list[Run]) -> Iterator[Piece]:
        """Take bytes apart; nothing else is there than whole appends and what was inherited."""
        starts = {piece.start: piece for piece in living.inherited or ()}
        for run in runs:
            position = 0
            while position < len(run.data):
                at = Offset(run.segment, run.begin + position)
                piece = starts.get(at) or self._append_at(run, position)
                data = run.data[position : position + len(piece.data)]
                assert data == piece.data, f"torn or foreign bytes at {at}: {data[:60]!r}"
                yield piece
                position += len(piece.data)

    def _append_at(self, run: Run, position: int) -> Piece:
        match = NUMBER.match(run.data, position)
        attempt = self.attempts.get(int(match[1])) if match else None
        assert attempt, f"foreign bytes in {run.segment}: {run.data[position : position + 60]!r}"
        end = run.begin + position + len(attempt.wire)
        return Piece(attempt.number, Offset(run.segment, end), attempt.wire)

    def _sidecar(self, living: Incarnation) -> Sidecar | None:
        """What a stream's files say of it; None if they are gone."""
        home = self._data / "streams" / names.directory_of(living.command.path)
        data = self.disk.files(home / names.SIDECAR)
        sidecar = sidecar_format.unpack(next(iter(data.values()))) if data else None
        return sidecar if sidecar is not None and sidecar.id == living.id else None

    def _learn(self, fork: Incarnation, runs: list[Run], now_ms: int) -> None:
        """A fork is seen for the first time: what it began with, and whether that is right."""
        sidecar = self._sidecar(fork)
        if sidecar is None:
            return
        origin = sidecar.fork
        assert origin is not None, "it was to be a fork"
        source = self._by_id[origin.source_id]
        first = self.first_segment(source)
        if first is None and not self._lost:
            return  # its file is away; of one that the power took, nobody will know
        fork.is_known(sidecar.content_type, sidecar.lifetime())
        shift = 0 if first is None else sidecar.first - first
        point = _moved(parse_offset(origin.point), -shift)
        runs = [run._replace(segment=run.segment - shift) for run in runs]
        # Of what is left of unsynced writes, the source need not know of the fork.
        fork.source = None if self._lost else source
        source.forks.append(fork)
        mine = [
            Run(run.segment, run.begin, run.data[: point.position])
            if run.segment == point.segment
            else run
            for run in runs
            if run.segment <= point.segment
        ]
        inherited = tuple(self._inherited(fork, source, mine))
        fork.inherited = tuple(piece._replace(end=_moved(piece.end, shift)) for piece in inherited)
        if self._lost:
            return
        for piece in inherited:
            attempt = source.attempts.get(piece.number)
            if attempt is not None and piece.data == attempt.wire:
                self._saw_own(source, piece, now_ms)
        numbers = {piece.number for piece in inherited}
        for attempt in source.attempts.values():
            if attempt.fate is Fate.DONE and attempt.end is not None and attempt.end <= point:
                assert attempt.number in numbers, f"{attempt.number} is missing in the fork"
        wanted = fork.wanted
        if wanted is not None and wanted.source is source:
            right = point == wanted.point if wanted.exactly else point >= wanted.point
            assert right, f"forked at {point}, asked for {wanted.point}"

    def _inherited(
        self, fork: Incarnation, source: Incarnation, runs: list[Run]
    ) -> Iterator[Piece]:
        """The pieces of a fork: those of its source, the last perhaps cut."""
        starts = {piece.start: piece for piece in source.inherited or ()}
        for run in runs:
            position = 0
            while position < len(run.data):
                at = Offset(run.segment, run.begin + position)
                left = run.data[position:]
                piece = starts.get(at) or self._whole_or_cut(fork, source, left, at)
                data = left[: len(piece.data)]
                assert piece.data.startswith(data), f"foreign bytes at {at}: {left[:60]!r}"
                number = piece.number if data == piece.data else _number_of_cut(at)
                yield Piece(number, Offset(at.segment, at.position + len(data)), data)
                position += len(data)

    def _whole_or_cut(
        self, fork: Incarnation, source: Incarnation, left: bytes, at: Offset
    ) -> Piece:
        """The append of a source that these bytes begin."""
        fits = [
            attempt
            for attempt in self.attempts.values()
            # A source may have lost unsynced bytes that its fork still has.
            if attempt.number in source.attempts or source.inherited is None or self._lost
            if attempt.homes != [fork]
            if left.startswith(attempt.wire) or attempt.wire.startswith(left)
        ]
        if not fits and source.inherited is None:  # and nobody knows what it took of a third
            return self._cut_before(left, at)
        assert fits, f"foreign bytes at {at}: {left[:60]!r}"
        best = max(fits, key=lambda attempt: (left.startswith(attempt.wire), attempt.number))
        return Piece(best.number, at, best.wire)

    def _cut_before(self, left: bytes, at: Offset) -> Piece:
        """An append that was cut and has others behind it: as much as is of any append."""
        taken = max(
            sum(1 for _ in takewhile(bool, map(eq, attempt.wire, left)))
            for attempt in self.attempts.values()
        )
        assert taken, f"foreign bytes at {at}: {left[:60]!r}"
        return Piece(_number_of_cut(at), at, left[:taken])

    # -- a crash ---------------------------------------------------------------------------

    def crash(self) -> None:
        """Requests under way will get no answer."""
        for place in self.places.values():
            place.appends.clear()
            place.deletions.clear()
            place.busy = 0

    def lose(self, kept_before_ms: int) -> None:
        """The power went, and acknowledgements since did not wait for the disk."""

        def lost(since_ms: int) -> bool:
            return since_ms > 0 and since_ms >= kept_before_ms

        self._lost = True
        self.losses += 1
        for place in self.places.values():
            for living in place.lives:
                for attempt in living.attempts.values():
                    if attempt.fate is Fate.DONE and lost(attempt.since_ms):
                        attempt.fate = Fate.OPEN
                if living.closed is Fate.DONE and lost(living.closed_ms):
                    living.closed = Fate.OPEN
                if living.dead_at is not None and lost(living.dead_ms):
                    living.dead_at, living.deleting = None, living.deleting + 1
                if living.deleting:  # its end may be lost, and not that of its source
                    living.source = None
                if living.born is Fate.DONE and lost(living.born_ms):
                    living.born, living.source = Fate.OPEN, None
                living.tail = ZERO
            place.unsettled.clear()
            place.past.clear()

    # -- after a recovery ------------------------------------------------------------------

    async def check(self, engine: FileStore, now_ms: Callable[[], int]) -> None:
        """Compare everything; settle what was open."""
        missing: list[tuple[StreamPath, list[Incarnation]]] = []
        for path in sorted(self.places):
            place = self.places[path]
            before = list(place.lives)
            try:
                await self._check_place(engine, path, place, now_ms)
                self._check_past(place, before)
            except AssertionError as error:
                raise AssertionError(f"{path}: {error}") from error
            if not place.lives:
                missing.append((path, before))
        for path, before in missing:
            self._check_nobody_needs(path, before, now_ms())
        self._lost = False
        self.checked += 1

    def _check_past(self, place: Place, before: list[Incarnation]) -> None:
        """No two streams at a path had the same offsets, but long after each other."""
        if self._lost:  # what they were is not known, nor is who was deleted
            return
        lived = [living for living in before if living.born is Fate.DONE]
        new = [living for living in lived if living not in place.past]
        for living in new:
            for other in [*place.past, *new]:
                if other is living or not living.is_close_to(other, self._kept_ms):
                    continue
                both = living.segments() & other.segments()
                assert not both, f"two streams, one after the other, have the segments {both}"
        place.past += [living for living in new if living not in place.lives]

    def _check_nobody_needs(
        self, path: StreamPath, missing: list[Incarnation], now_ms: int
    ) -> None:
        """A stream that a living fork was made of is deleted at most for its readers."""
        for source in missing:
            for fork in source.forks:
                needed = (
                    fork.source is source
                    and fork in self.place(fork.command.path).lives
                    and not fork.may_be_gone(now_ms)
                    and source.born is Fate.DONE
                )
                assert not needed, f"{path}: 404, and its fork {fork.command.path} lives"

    async def _check_place(
        self, engine: FileStore, path: StreamPath, place: Place, now_ms: Callable[[], int]
    ) -> None:
        visit = self.visit(path, now_ms())
        try:
            info = await engine.head(path)
        except (StreamNotFound, StreamGone) as error:
            visit.met_nobody(error, now_ms())
            needed = isinstance(error, StreamGone)
            place.lives = [i for i in place.lives if needed and i.born is Fate.DONE]
            place.unsettled.clear()
            for living in place.lives:
                living.dead_ms = living.born_ms = 0
            return
        assert info.id in self._by_id, "a stream that nobody created"
        living = self._by_id[info.id]
        closed = living.closed
        visit.met(living, now_ms())
        if self._lost:  # the close of a stream that was made closed can be lost by itself
            living.closed = closed
        for deletion in list(place.unsettled):
            assert deletion.targets != [living], "deleted, and back"
        assert info.tail >= living.tail, f"it ends at {info.tail}, and did at {living.tail}"
        living.deleting, living.born_ms = 0, 0
        place.lives = [living]
        place.unsettled.clear()
        try:
            await self._check_content(engine, path, living, now_ms)
            self._settle_close(living, closed=info.closed)
            await self._check_producers(engine, path, living, now_ms)
            await self._check_stream_seq(engine, path, living)
        except (StreamNotFound, StreamGone):
            self.gone(living, now_ms())
            await self._check_place(engine, path, place, now_ms)

    async def _check_content(
        self, engine: FileStore, path: StreamPath, living: Incarnation, now_ms: Callable[[], int]
    ) -> None:
        stream = await engine.open(path)
        runs, tail = await read(engine, stream)
        living.use(now_ms(), surely=False)
        again, _ = await read(engine, stream, ZERO)
        assert again == runs, "the zero token is not the beginning"
        await self._check_old_offsets(engine, stream, living)
        found = self.saw(living, runs, now_ms(), tail)
        numbers = [piece.number for piece in found]
        assert len(set(numbers)) == len(numbers), f"stored twice: {numbers}"
        for attempt in list(living.attempts.values()):
            attempt.since_ms = 0
            if attempt.number in numbers:
                continue
            if attempt.fate is Fate.DONE:
                raise AssertionError(f"lost {attempt.number}")
            if attempt.fate is Fate.OPEN and len(attempt.homes) == 1:
                end = attempt.end or attempt.told
                assert end is None or end > tail, f"lost {attempt.number} and kept what came after"
                attempt.fate, attempt.end = Fate.REFUSED, None
            elif attempt.fate is Fate.OPEN:
                attempt.may_be_in([home for home in attempt.homes if home is not living])

    async def _check_old_offsets(
        self, engine: FileStore, stream: StreamRef, living: Incarnation
    ) -> None:
        """Whoever read another stream at the path is told that it is another one."""
        for other in self.place(stream.path).past:
            for end in other.known_ends():
                if not living.is_close_to(other, self._kept_ms):
                    continue
                try:
                    await engine.read(stream, end)
                except OffsetGone:
                    continue
                except InvalidOffset:
                    pass  # by chance it cannot be read from
                raise AssertionError(f"{end} is of another stream, and nobody is told so")

    def _settle_close(self, living: Incarnation, *, closed: bool) -> None:
        if living.closed is Fate.DONE:
            assert closed, "closed, and open again"
        elif living.closed is Fate.REFUSED:
            assert not closed, "closed by nobody"
        living.closed = Fate.DONE if closed else Fate.REFUSED
        living.closed_ms = 0

    async def _check_producers(
        self, engine: FileStore, path: StreamPath, living: Incarnation, now_ms: Callable[[], int]
    ) -> None:
        """A retry is a duplicate, a gap is one, an old epoch is fenced off; nothing is stored.

        But of a producer that was idle for long enough to be forgotten.
        """
        latest: dict[str, Attempt] = {}
        table = (await engine._find(path)).producers
        for attempt in living.attempts.values():
            claim = attempt.producer
            if claim is None or attempt.fate is not Fate.DONE:
                continue
            known = latest.get(claim.id)
            if known is None or _place_of(attempt) > _place_of(known):
                latest[claim.id] = attempt
        for name, last in latest.items():
            claim = last.producer
            assert claim is not None
            if name not in table.states:
                assert now_ms() - last.sent_ms > IDLE_MS, f"{name} was forgotten too early"
                continue
            before = (await engine.head(path)).tail
            await self._check_retry(engine, path, living, last)
            body = token(last.number, 3)
            gap = ProducerClaim(name, claim.epoch, claim.seq + 2)
            for wrong, answer in (
                (gap, ProducerGap),
                (ProducerClaim(name, claim.epoch - 1, 0), StaleEpoch),
            ):
                if wrong.epoch < 0 or living.closed is Fate.DONE:
                    continue
                try:
                    await engine.append(Append(path, living.content_type, producer=wrong), body)
                except answer:
                    continue
                raise AssertionError(f"{wrong} was accepted after {claim}")
            assert (await engine.head(path)).tail == before
            living.use(now_ms(), surely=False)

    async def _check_retry(
        self, engine: FileStore, path: StreamPath, living: Incarnation, last: Attempt
    ) -> None:
        command = Append(path, living.content_type, producer=last.producer, close=last.closes)
        try:
            again = await engine.append(command, token(last.number, 3))
        except StreamClosed:
            assert living.closed is Fate.DONE
            assert not last.closes, "the closing request is not recognised"
        else:
            assert again.duplicate, f"a retry of {last.producer} was accepted"

    async def _check_stream_seq(
        self, engine: FileStore, path: StreamPath, living: Incarnation
    ) -> None:
        """What a writer claimed to have written last cannot be written again."""
        done = [a.stream_seq for a in living.attempts.values() if a.fate is Fate.DONE]
        last = max((seq for seq in done if seq is not None), default=None)
        if last is None or living.closed is Fate.DONE:
            return
        command = Append(path, living.content_type, stream_seq=last)
        try:
            await engine.append(command, token(0, 0))
        except SequenceConflict as error:
            assert error.last == last, f"the last Stream-Seq was {last}, not {error.last}"
        else:
            raise AssertionError(f"Stream-Seq {last} was accepted twice")


def _place_of(attempt: Attempt) -> Offset:
    assert attempt.end is not None
    return attempt.end


def _moved(at: Offset, segments: int) -> Offset:
    """The same place where the segments have numbers so much higher."""
    return Offset(at.segment + segments, at.position)


def _number_of_cut(at: Offset) -> int:
    """The number of what a fork took of an append: of which one, what is left may not tell."""
    return -1 - at.position - (at.segment << 32)
