"""The streams of one run: claimed, ended and looked at.  Each step may be repeated by anybody."""

from __future__ import annotations

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import uuid4

import msgspec

from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import (
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
    UnexpectedAnswer,
)
from durable_streams.runs.formats import FORMATS, JSON
from durable_streams.runs.pieces import json_of
from durable_streams.runs.states import Claim, End
from durable_streams.runs.store import all_json, until_it_works

if TYPE_CHECKING:
    from durable_streams.runs.states import Places
    from durable_streams.runs.store import AnyStreams

_JSON: Final = "application/json"


class Found(NamedTuple):
    """What a control stream says; ``end`` is None while the run goes on."""

    claim: Claim
    end: End | None


class Records:
    """The runs below one prefix, as their streams have them."""

    def __init__(self, streams: AnyStreams, places: Places, ttl_s: int | None) -> None:
        self.streams: Final = streams
        self.places: Final = places
        self._ttl_s = ttl_s

    async def claim(self, name: str, claim: Claim) -> Claim:
        """Claim a run; whose it is: this claim, or the one that came first."""
        control = self.places.control(name)
        try:
            made = await self.streams.create(
                control, content_type=_JSON, data=json_of(claim), ttl_s=self._ttl_s
            )
        except StreamExists:  # it has ended, or has another TTL
            created = False
        else:
            created = made.created
        if created:
            return claim
        return (await self.find(name)).claim  # ours, if the answer to a first attempt was lost

    async def find(self, name: str) -> Found:
        """What is known of a run; ``StreamNotFound`` if there is none."""
        control = self.places.control(name)
        values = await all_json(self.streams, control)
        try:
            claim = msgspec.convert(values[0], Claim)
            end = msgspec.convert(values[-1], End) if len(values) > 1 else None
        except (IndexError, msgspec.ValidationError) as error:
            raise UnexpectedAnswer(f"{control!r} is no control stream of a run: {error}") from None
        return Found(claim, end)

    async def open(self, name: str, form: str) -> None:
        """Have the stream that readers read, in an open or closed run."""
        content_type = FORMATS[form].content_type if form in FORMATS else JSON.content_type
        try:
            await self.streams.create(
                self.places.answer(name), content_type=content_type, ttl_s=self._ttl_s
            )
        except StreamExists:  # it is closed; or another stream's, which an append finds out
            return

    async def end(
        self, name: str, end: End, *, last: bytes | None = None, claim: ProducerClaim | None = None
    ) -> End:
        """End a run; how it has ended, by this or before.  Its stream is closed on return.

        ``last``: the last message for this end, by whoever has seen all items; ``claim``: its
        number as a producer.
        """
        by = ProducerClaim(f"end-{uuid4().hex}", 0, 0)
        control = self.places.control(name)
        try:
            await until_it_works(
                lambda: self.streams.append(
                    control, json_of(end), content_type=_JSON, close=True, producer=by
                )
            )
        except StreamClosed:
            found = await until_it_works(lambda: self.find(name))
            if found.end is None:
                raise UnexpectedAnswer(f"{control!r} is closed, and says no end") from None
            end, last = found.end, None
        except (StreamNotFound, StreamGone):
            await self.close_unclaimed(name)
            return end
        await self._close(name, end, last, claim or by)
        return end

    async def close_unclaimed(self, name: str) -> None:
        """Close the stream of a run whose claim was deleted, or has expired, if it is there."""
        with suppress(StreamNotFound, StreamGone, StreamClosed):
            await until_it_works(lambda: self.streams.close(self.places.answer(name)))

    async def touch(self, path: str) -> None:
        """Use a stream, so that its TTL begins again."""
        with suppress(StreamNotFound, StreamGone):
            end = (await self.streams.get_metadata(path)).next_offset
            async with aclosing(self.streams.tail(path, end, live=False)) as messages:
                async for _ in messages:
                    break

    async def _close(self, name: str, end: End, last: bytes | None, claim: ProducerClaim) -> None:
        """Close the stream that readers read, with its last message, if nobody has."""
        form = FORMATS.get((await until_it_works(lambda: self.find(name))).claim.format, JSON)
        data = form.ending(end) if last is None else last
        path = self.places.answer(name)

        async def close() -> Any:  # noqa: ANN401 - whatever it says
            return await self.streams.append(
                path, data, content_type=form.content_type, close=True, producer=claim
            )

        try:
            await until_it_works(close)
        except StreamClosed:
            return
        except StreamNotFound:  # claimed, and then its process ended
            await until_it_works(lambda: self.open(name, form.name))
            await until_it_works(close)
