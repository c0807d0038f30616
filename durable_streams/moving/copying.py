"""All streams of a store, copied into another one and compared; then it may be served.

First all streams are looked at, and none is copied if the target cannot hold one of them.  Forks
come behind what they are forks of.  What is in the target is not copied again, so a copy that was
broken off goes on; but for streams that are not what they were when they were copied, as somebody
served the source meanwhile.  All is compared in the end, whenever it was copied: what is known of
each stream, and a checksum over its appends, with their bytes, places, times and producers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.transfers import Damaged, NotHeld, Occupied, TransferError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from durable_streams.rules.producers import ProducerState
    from durable_streams.transfers import Appended, Done, Moved, Source, Streams, Target


_T = TypeVar("_T")


class Phase(Enum):
    """What is being done."""

    LOOKING = "looked at"
    COPYING = "copied"
    COMPARING = "compared"


class Differs(Damaged):
    """The copy is not what its source is."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "empty the target and copy again")


@dataclass(slots=True)
class Progress:
    """How far it is, in streams ``of`` so many, 0 if that is not known yet.

    ``found``: those that were there already.  At the end: ``left``: what was not copied,
    ``retired``: how to have the source served again.
    """

    phase: Phase
    of: int = 0
    streams: int = 0
    found: int = 0
    appends: int = 0
    data_bytes: int = 0
    left: str = ""
    retired: str = ""

    def count(self, appends: Sequence[Appended]) -> None:
        """Some more."""
        self.appends += len(appends)
        self.data_bytes += sum([len(append.data) for append in appends])


async def copy(
    source: Source,
    target: Target,
    told: Callable[[Progress], None],
    *,
    retires: bool = False,
) -> Progress:
    """Copy all, compare all, and let the target be served; what was compared.

    ``retires``: nobody can serve the source from then on.  Raises what ``transfers`` has, and
    :class:`Differs`.
    """
    number, state = await _look(source, target, told)
    if target.was_begun:
        await _drop_changed(source, target)
    copying = _Copying(source, target, number, told)
    await copying.run()
    await target.settle()
    compared = Progress(Phase.COMPARING, number)
    await _compare_all(source, target, compared, told)
    compared.found = copying.progress.found
    compared.left = await source.left()
    if retires:  # before anybody can serve the target
        compared.retired = await retire(source, target.name)
    else:
        await source.check_still()
    with _telling_of(source, compared.retired):
        await target.finish(await source.removed(), state)
    return compared


async def retire(source: Source, successor: str) -> str:
    """Have nobody serve a source of which all is copied; how that is taken back.

    ``successor``: the name of what is served instead.  Raises :class:`InUse` if somebody may have
    written to it, which says so if it is retired by then.
    """
    await source.check_still()
    taken_back = await source.retire(successor)
    with _telling_of(source, taken_back):
        await source.check_still()  # nor was a node started a moment before the mark
    return taken_back


@contextmanager
def _telling_of(source: Source, retired: str) -> Iterator[None]:
    """Whatever goes wrong says that nobody serves the source, if it is ``retired`` already."""
    try:
        yield
    except TransferError as error:
        if not retired:
            raise
        told = f"{error}; nobody serves {source.name} by now, until {retired}"
        raise type(error)(told) from error


_NAMED: Final = 3
"""Of streams that cannot be copied; of the others only how many there are."""


async def check_same(source: Source, done: Done) -> None:
    """:class:`Occupied` if the source of a copy that is done was written to since."""
    state = _State()
    async for streams in source.all():
        for stream in streams:
            state.take(stream)
    if state.text != done.state:
        raise Occupied(
            f"{source.name} has changed since it was copied to {done.name}, which may have been "
            f"written to as well. If {done.name} is what is served, do not copy again, and have "
            f"nobody serve {source.name}: {source.by_hand}. If it is not, empty it, which loses "
            "all that was written to it since, and copy again"
        )


async def _look(
    source: Source, target: Target, told: Callable[[Progress], None]
) -> tuple[int, str]:
    """How many streams there are, and their state.

    :class:`NotHeld` if the target cannot hold some of them.
    """
    progress, state, refused, named = Progress(Phase.LOOKING), _State(), 0, list[str]()
    async for streams in source.all():
        for stream in streams:
            state.take(stream)
            if refusal := target.refusal(stream):
                refused += 1
                if refused <= _NAMED:
                    named.append(f"{path_text(stream.path)} ({refusal})")
        progress.streams += len(streams)
        told(progress)
    if refused:
        others = f", and {refused - _NAMED} others" if refused > _NAMED else ""
        raise NotHeld(
            f"{target.name} cannot hold {', '.join(named)}{others}: nothing was copied; write what "
            "they hold to new streams, remove them, and run it again: nobody serves "
            f"{target.name} until that is done, or {target.given_up}"
        )
    return progress.streams, state.text


class _State:
    """What is known of all streams of a store, in whatever order they come."""

    def __init__(self) -> None:
        self._sum = 0

    def take(self, stream: Moved) -> None:
        """One more."""
        digest = blake2b(_encode(stream), digest_size=_STATE_BYTES).digest()
        self._sum += int.from_bytes(digest)

    @property
    def text(self) -> str:
        """Of all so far, in hexadecimal."""
        return f"{self._sum % (1 << 8 * _STATE_BYTES):x}"


_STATE_BYTES: Final = 16
_encode: Final = msgspec.msgpack.Encoder(order="deterministic").encode


async def _drop_changed(source: Source, target: Target) -> None:
    """Have nothing in the target that is not as it is in the source now, bytes aside."""
    async for streams in _read(target.all()):
        changed: list[Moved] = []
        for there in streams:
            stream = await source.at(there.path)
            if stream is None or _differences(target, stream, there):
                changed.append(there)
        if changed:
            await target.drop(changed)


class _Copying:
    """The first part."""

    def __init__(
        self, source: Source, target: Target, number: int, told: Callable[[Progress], None]
    ) -> None:
        self._source = source
        self._target = target
        self._told = told
        self.progress = Progress(Phase.COPYING, number)

    async def run(self) -> None:
        """Have all in the target that is in the source."""
        async for streams in self._source.all():
            there = await self._target.find(streams)
            self.progress.found += len(there)
            self.progress.streams += len(there)
            for stream in streams:
                if stream.key not in there:
                    await self._add(stream)
            self._told(self.progress)

    async def _add(self, stream: Moved) -> None:
        """One, behind all that it is a fork of, directly or not; it may be there by now."""
        line = [stream]
        while (source := await self._missing_source(line[-1])) is not None:
            line.append(source)
        if len(line) == 1 and await self._target.find([stream]):
            return
        for each in reversed(line):
            await self._target.add(each, partial(self._appends, each))
            self.progress.streams += 1
            self._told(self.progress)

    async def _missing_source(self, stream: Moved) -> Moved | None:
        if stream.source is None or stream.fork is None:
            return None
        source = await self._source.at(stream.fork.source)
        if source is None or source.key != stream.source:
            raise Damaged(f"{path_text(stream.path)}: what it is a fork of changes meanwhile")
        return None if await self._target.find([source]) else source

    async def _appends(self, stream: Moved, behind: Offset) -> AsyncIterator[Sequence[Appended]]:
        async for batch in self._source.appends(stream, behind):
            yield batch
            self.progress.count(batch)
            self._told(self.progress)


# -- compared ------------------------------------------------------------------------------


async def _compare_all(
    source: Source, target: Target, progress: Progress, told: Callable[[Progress], None]
) -> None:
    async for streams in source.all():
        for stream in streams:
            with _its_fault():
                there = await target.at(stream.path)
            if there is None:
                raise Differs(f"{path_text(stream.path)} is not in the copy")
            if wrong := _differences(target, stream, there):
                text = f"{path_text(stream.path)} differs from its copy in: {', '.join(wrong)}"
                raise Differs(text)
            await _compare_appends(source, target, stream, there, progress)
            progress.streams += 1
            told(progress)
    count = 0
    async for streams in _read(target.all()):
        count += len(streams)
    if count != progress.streams:
        raise Differs(f"the copy has {count} streams, and its source {progress.streams}")


_SAME: Final = (  # not "chain", which no two kinds of store have alike
    *("path", "content_type", "lifetime", "requested", "fork", "created_ms", "deadline_ms"),
    *("soft_deleted", "first_segment", "tail", "closed", "closed_by", "stream_seq"),
)


def _differences(target: Target, stream: Moved, there: Moved) -> list[str]:
    """In what that is known of it a stream is not what its copy is."""
    wrong = [name for name in _SAME if getattr(stream, name) != getattr(there, name)]
    if there.key != target.key_of(stream.key):
        wrong.append("key")
    source = None if stream.source is None else target.key_of(stream.source)
    if there.source != source:
        wrong.append("source")
    if source is not None and there.point not in {stream.point, there.begin}:
        wrong.append("point")
    if _producers(target, stream) != _producers(target, there):
        wrong.append("producers")
    return wrong


def _producers(target: Target, stream: Moved) -> Mapping[str, ProducerState]:
    if target.keeps_seen:
        return stream.producers
    return {name: state._replace(time_ms=0) for name, state in stream.producers.items()}


async def _compare_appends(
    source: Streams, target: Streams, stream: Moved, there: Moved, progress: Progress
) -> None:
    ours = _Checksum(stream.point)
    async for batch in source.appends(stream, _BEFORE_ALL):
        ours.take(batch)
        progress.count(batch)
    theirs = _Checksum(stream.point)
    async for batch in _read(target.appends(there, _BEFORE_ALL)):
        theirs.take(batch)
    if ours.digest() != theirs.digest():
        raise Differs(f"{path_text(stream.path)} differs from its copy in its appends")


_BEFORE_ALL: Final = Offset(-1, 0)


async def _read(batches: AsyncIterator[_T]) -> AsyncIterator[_T]:
    """What a target has, some at a time."""
    with _its_fault():
        async for batch in batches:
            yield batch


@contextmanager
def _its_fault() -> Iterator[None]:
    """What is damaged in the target is copied again, not repaired."""
    try:
        yield
    except Damaged as error:
        raise Differs(error.text) from None


class _Checksum:
    """Of appends; of those that a fork has of its source not by whom they are.

    The piece in which a fork was made has no producers in files, and has them in a database.
    """

    def __init__(self, point: Offset) -> None:
        self._point = point
        self._hash = blake2b()

    def take(self, batch: Sequence[Appended]) -> None:
        """Some more."""
        for each in batch:
            is_own = Offset(each.segment, each.end) > self._point or not each.data
            claim = each.claim if is_own else None
            said = each.segment, each.begin, each.end, each.time_ms, claim, each.closes
            self._hash.update(msgspec.msgpack.encode(said))
            self._hash.update(each.data)

    def digest(self) -> bytes:
        """Over all so far."""
        return self._hash.digest()
