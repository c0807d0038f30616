"""The appends of a stream in its runs, one after the other, with every checksum computed again.

Where reads believe what each run says of its checksum, everything is compared here, for whoever
verifies a database, or copies one.  Some runs are in memory at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.offsets import Offset
from durable_streams.postgres.decisions import chained
from durable_streams.postgres.rows import FIRST_CHAIN, claims_of
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import asyncpg

    from durable_streams.model.commands import ProducerClaim
    from durable_streams.postgres.rows import Layer

    Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

AT_ONCE_BYTES: Final = 4 * MIB
"""Of runs in memory, unless one is larger."""

_AT_ONCE: Final = 128

RUNS: Final = f"""
select segment, start, ends, times, claims, before, chain, data from (
 select *, sum(length(data)) over w as size_bytes, row_number() over w as number from (
  select * from ds.runs where stream = $1 and (segment, start) >= ($2, $3)
    and (segment, start) < ($4, $5) order by segment, start limit {_AT_ONCE}) as part
 window w as (order by segment, start)) as found
 where number = 1 or size_bytes <= {AT_ONCE_BYTES} order by segment, start
"""  # noqa: S608 - of constants


class Broken(Exception):
    """Runs are not what they were, or some are not there (``is_missing``).

    ``place``: which row; ``at``: up to where the stream is sound.
    """

    def __init__(self, place: str, text: str, at: Offset, *, is_missing: bool = False) -> None:
        super().__init__(f"{place}: {text}")
        self.place = place
        self.text = text
        self.at = at
        self.is_missing = is_missing


class Step(msgspec.Struct, frozen=True, gc=False):
    """An append of a stream, and the running checksum behind it."""

    segment: int
    begin: int
    end: int
    time_ms: int
    claim: ProducerClaim | None
    data: bytes
    chain: bytes


class Walk:
    """A walk over layers of a stream; ``at`` and ``chain``: where it is."""

    def __init__(self, fetch: Fetch, begin: Offset, chain: bytes | None = FIRST_CHAIN) -> None:
        """``chain``: None if the checksum there is not known, and the first run is believed."""
        self._fetch = fetch
        self.at = begin
        self.chain = chain

    async def over(self, layer: Layer) -> AsyncIterator[Sequence[Step]]:
        """All appends of a layer, from where the walk is up to the end of it, or :class:`Broken`.

        The layer's runs begin there, or it has none.
        """
        stream, end = layer.stream, Offset(layer.end_segment - layer.shift, layer.end_position)
        first = Offset(self.at.segment - layer.shift, self.at.position)
        while first < end:
            runs = await self._fetch(RUNS, stream, *first, *end)
            for run in runs:
                yield self._steps(layer, run)
                first = Offset(run["segment"], run["start"] + 1)
            if not runs:
                break
        if not is_same(self.at, layer.end):
            raise Broken(
                _place(stream, self.at.segment - layer.shift, self.at.position),
                f"it is not there, and the stream goes on to {layer.end.token}",
                self.at,
                is_missing=True,
            )

    def _steps(self, layer: Layer, run: asyncpg.Record) -> list[Step]:
        segment, start, data = run["segment"] + layer.shift, run["start"], run["data"]
        place = _place(layer.stream, run["segment"], start)
        begin = Offset(segment, start)
        if not is_same(self.at, begin):
            text = f"those before it end at {self.at.token}"
            raise Broken(place, text, self.at, is_missing=True)
        if self.chain is None:
            self.chain = run["before"]
        if run["before"] != self.chain:
            raise Broken(place, "it does not continue the checksum of what is before it", self.at)
        ends = run["ends"]
        if not ends or None in ends or ends[-1] - start != len(data) or sorted(ends) != ends:
            raise Broken(place, f"its ends are not those of its {len(data)} bytes", self.at)
        if len(run["times"]) != len(ends):
            raise Broken(place, "it has not as many times as appends", self.at)
        steps, chain, position = list[Step](), run["before"], start
        try:
            claims = claims_of(run["claims"], len(ends))
        except msgspec.MsgspecError:
            raise Broken(place, "its producers cannot be read", self.at) from None
        for stop, time_ms, claim in zip(ends, run["times"], claims, strict=True):
            piece = data[position - start : stop - start]
            chain = chained(chain, piece)
            steps.append(Step(segment, position, stop, time_ms, claim, piece, chain))
            position = stop
        if chain != run["chain"]:
            raise Broken(place, "its bytes fail their checksum", self.at)
        cut = layer.end.position if segment == layer.end_segment else position
        if cut < position:
            steps = _cut(steps, cut, run["before"])
        self.at, self.chain = Offset(segment, steps[-1].end), steps[-1].chain
        return steps


def _cut(steps: list[Step], cut: int, chain: bytes) -> list[Step]:
    """What a fork has of a run in which it was made."""
    kept = [step for step in steps if step.end <= cut]
    rest = steps[len(kept)]
    if rest.begin < cut:
        before = kept[-1].chain if kept else chain
        data = rest.data[: cut - rest.begin]
        kept.append(msgspec.structs.replace(rest, end=cut, data=data, chain=chained(before, data)))
    return kept


def is_same(at: Offset, other: Offset) -> bool:
    """Whether two offsets are one position: the end of a segment, and the beginning of the next."""
    return at == other or (at.segment + 1 == other.segment and other.position == 0)


def _place(stream: int, segment: int, start: int) -> str:
    return f"ds.runs, stream {stream}, segment {segment}, start {start}"


_LAST: Final = """
select segment, start, ends, before, chain, data from ds.runs
 where stream = $1 and (segment, start) < ($2, $3) order by segment desc, start desc limit 1
"""
"""The run that has what is before a position."""


async def chain_behind(fetch: Fetch, layers: Sequence[Layer]) -> bytes:
    """The running checksum where the last of some layers ends; :class:`Broken` if it is not there.

    Only what is around that place is read.
    """
    for layer in reversed(layers):
        segment, position = layer.end_segment - layer.shift, layer.end_position
        for run in await fetch(_LAST, layer.stream, segment, position):
            begin, chain, data = run["start"], run["before"], run["data"]
            cut = position if run["segment"] == segment else run["ends"][-1]
            if run["ends"][-1] < cut:
                place = _place(layer.stream, segment, run["ends"][-1])
                text = f"it is not there, and a fork has all up to {layer.end.token} of it"
                raise Broken(place, text, Offset(segment, begin), is_missing=True)
            at = begin
            for end in run["ends"]:
                stop = min(end, cut)
                if at < stop:
                    chain = chained(chain, data[at - begin : stop - begin])
                at = stop
            return bytes(chain)
    return FIRST_CHAIN
