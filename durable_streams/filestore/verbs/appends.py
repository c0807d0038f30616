"""Appends: decided and sent on their way in one step, at once or in line.

Nothing awaits between the first check and the submission, so what was checked is what is changed.
An answer that depends on a decision still on its way (a duplicate, a conflict with it) waits until
that is durable as well: no crash can make it untrue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durable_streams.filestore.pipeline.operations import AppendOperation
from durable_streams.filestore.streams.life import LIVE, RULES
from durable_streams.filestore.streams.payloads import LARGE_BODY, prepare, try_prepare
from durable_streams.filestore.verbs.tickets import Decided
from durable_streams.model.errors import InvalidJson, StreamError, StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.model.results import Appended
from durable_streams.rules.appends import Repeat, WriterState, decide_append
from durable_streams.rules.media_type import is_json
from durable_streams.waiters import Turns

if TYPE_CHECKING:
    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Payload, Stream
    from durable_streams.filestore.verbs.access import Access
    from durable_streams.model.commands import Append

_PRODUCERS_SHARE: Final = 4  # their table is at most one part in so many of a journal file


class Appends:
    """The verb ``append``; ``turns``: of those that cannot be decided at once.

    ``duplicates``: how many there were of producers that were stored already.
    """

    def __init__(self, core: Core, access: Access) -> None:
        self._core = core
        self._access = access
        self.turns = Turns()
        self.duplicates = 0

    async def in_line(self, command: Append, body: bytes) -> AppendOperation | Decided:
        """Decide when it is admitted, after those who came before at the same path.

        In this order: whoever waits in the line of all writers keeps nobody else waiting, and the
        disk is looked at by those only who are to write.
        """
        core = self._core
        prepared: Payload | InvalidJson | None = None
        await core.admission.admit()
        async with self.turns.at(command.path):
            if len(body) > LARGE_BODY:
                as_json = is_json(command.content_type or "")
                prepared = await core.run(try_prepare, as_json, body)
            stream = await core.catalog.find(command.path)
        if stream is None:
            raise StreamNotFound(path_text(command.path))
        return self.decide(stream, command, body, prepared)

    def decide(
        self,
        stream: Stream,
        command: Append,
        body: bytes,
        prepared: Payload | InvalidJson | None = None,
    ) -> AppendOperation | Decided:
        """Check, reserve and send on its way, in one step; if this raises, nothing has changed.

        ``prepared``: what became of the body, if that was done before, off the loop.
        """
        core, tail = self._core, stream.decided
        if stream.is_mortal or stream.state is not LIVE or self._access.closed:
            self._access.check(stream)
            refused = RULES[stream.state].appends
            if refused is not None:
                return Decided(stream.change, refused(path_text(stream.path)))
        claim = command.producer
        known = stream.producers.states.get(claim.id) if claim else None
        now_ms = core.now_ms()
        try:
            decision = decide_append(
                WriterState(
                    stream.content_type, tail, tail.closed, tail.closed_by, tail.stream_seq
                ),
                known,
                command,
                bool(body),
            )
            if isinstance(decision, Repeat):
                self.duplicates += claim is not None
                stream.use(now_ms)
                done = Appended(tail.offset, tail.closed, False, True, decision.producer)
                return Decided(stream.last_operation, done)
            payload = prepare(stream.is_json, body) if prepared is None else prepared
            if isinstance(payload, InvalidJson):
                raise payload
            forgot = self._room_for(stream, claim.id, now_ms) if claim and known is None else ()
        except StreamError as error:
            return Decided(stream.last_operation, error)
        record, before = stream.reserve(command, payload, now_ms, core.settings, forgot)
        stream.last_use_ms = stream.use_written_ms = max(stream.last_use_ms, now_ms)
        tail = stream.decided
        echo = (claim.epoch, claim.seq) if claim else None
        done = Appended(tail.offset, tail.closed, bool(record.data), False, echo)
        operation = AppendOperation(stream, record, before, done)
        core.pipeline.submit(operation)
        if claim is not None and known is None:
            core.catalog.weigh(stream)
        return operation

    def _room_for(self, stream: Stream, producer_id: str, now_ms: int) -> tuple[str, ...]:
        """Whom a stream forgets for a producer that it does not know."""
        core = self._core
        share = core.settings.journal_file_bytes // _PRODUCERS_SHARE
        most = min(core.tuning.producers_bytes, share)
        return stream.producers.room_for(producer_id, now_ms, most, core.settings.max_producers)
