"""Runs that outlive their request: started, followed, stopped and found, by name.

    async with durable_streams.connect(url) as streams, Runs(streams) as runs:
        await runs.start("chat/1", answer(question))
        async for piece in runs.read("chat/1"):
            print(piece.value)

``states`` says what a run is and what a crash leaves of it.  Everything here may be cancelled, as a
request is when its client leaves: what has been begun goes on.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self
from uuid import uuid4

from durable_streams.model.errors import (
    InvalidRequest,
    NotOpen,
    StreamClosed,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.runs.abandoned import Sweeper
from durable_streams.runs.carrying import Carried
from durable_streams.runs.formats import FORMATS, TEXT, Format
from durable_streams.runs.pieces import json_of
from durable_streams.runs.records import Records
from durable_streams.runs.renewing import renew
from durable_streams.runs.sources import Source, drop
from durable_streams.runs.states import DEFAULT_LEASE_S, Claim, End, Piece, Places, State, Status
from durable_streams.runs.store import all_json, passes, until_it_works
from durable_streams.runs.workers import SIGNS, Worker, tell_to_stop
from durable_streams.runs.writing import LINGER_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine
    from types import TracebackType

    from durable_streams.runs.store import AnyStreams

_log = logging.getLogger(__name__)

_JSON: Final = "application/json"
LIMIT_S: Final = 600.0
TTL_S: Final = 7 * 24 * 60 * 60
_SHORTEST_LEASE_S: Final = 0.3
_CANCELLING_S: Final = 1.0
"""What a task may take to be cancelled, before it is left."""

_NOT_STARTED: Final = End(State.FAILED, "it could not be started")


class Run(NamedTuple):
    """A run that :meth:`Runs.start` began, or found; ``is_new``: whether it began.

    ``path``: of the stream that has what it yields.
    """

    name: str
    path: str
    is_new: bool


class Runs:
    """Runs below one prefix of streams, of a directory, a database or a server.

    Any number of processes may have the same ones.  They are used in one event loop, within
    ``async with``; its end gives the runs that are under way here ``drain_s`` to come to theirs.
    """

    def __init__(
        self,
        streams: AnyStreams,
        prefix: str = "runs",
        *,
        lease_s: float = DEFAULT_LEASE_S,
        drain_s: float = 5.0,
        linger_s: float = LINGER_S,
        ttl_s: int | None = TTL_S,
    ) -> None:
        """``lease_s``: so long a process may be silent before its runs are ended for it.

        ``linger_s``: what a batch waits for more.  ``ttl_s``: so long a run's streams are kept
        after their last use, None for ever.  Raises ``ValueError`` for what cannot be.
        """
        if not _SHORTEST_LEASE_S <= lease_s < math.inf:
            raise ValueError(f"lease_s must be seconds from {_SHORTEST_LEASE_S:g} on")
        if not (drain_s >= 0 and linger_s >= 0):
            raise ValueError("drain_s and linger_s must be seconds from 0 on")
        self._places = Places(prefix)
        self._records = Records(streams, self._places, ttl_s)
        self._streams = streams
        self._lease_s = lease_s
        self._drain_s = drain_s
        self._linger_s = linger_s
        self._ttl_s = ttl_s
        self._carried: dict[str, Carried] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._worker: Worker | None = None
        self._beginning = asyncio.Lock()
        self._own: set[str] = set()
        self._held: dict[str, Worker] = {}
        self._is_left_open = False
        self._sweeper = Sweeper(self._records, lease_s)
        self._sweeping: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to look for what others have abandoned."""
        if self._sweeping is not None:
            raise RuntimeError("it is open already: make a Runs for each use")
        self._sweeping = asyncio.create_task(self._sweeper.run(self._own))
        if self._ttl_s is not None:
            renewing = renew(self._records, self._ttl_s, self._carried, self._held)
            self._renewing = asyncio.create_task(renewing)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what is under way here."""
        await self.aclose()

    async def aclose(self) -> None:
        """Wait ``drain_s`` for the runs that are under way here, and end the others."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is None:
            return
        for task in (sweeping, self._renewing):
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_s)
        shut_down = End(State.ABANDONED, "the process that carried it was shut down")
        for carried in self._carried.values():
            carried.tell(shut_down)
        for name in list(self._held):
            self._spawn(self._let_go(name, shut_down))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(1.0, self._drain_s))
        late = list(self._tasks)  # the store is away, or a source does not end: others will find it
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCELLING_S)
        if self._worker is not None:
            await self._worker.end(forget=not (late or self._held or self._is_left_open))

    async def start(
        self,
        name: str,
        source: Source,
        *,
        format: Format = TEXT,  # noqa: A002 - what else
        limit_s: float | None = LIMIT_S,
        group: str | None = None,
    ) -> Run:
        """Begin a run, or find that it exists: then ``source`` is not used, and ``is_new`` False.

        ``source``: a generator, a coroutine, what frameworks return (``sources``), or a function
        without arguments that gives one.  It goes on when this returns, whatever becomes of who
        called.  ``limit_s``: then it has failed.  ``group``: what :meth:`latest` finds it by.

        Raises ``InvalidRequest`` for a name that cannot be, and what streams raise.
        """
        self._check_open()
        self._places.answer(name)
        if format not in FORMATS.values():
            raise TypeError("format must be one of durable_streams.runs: TEXT, JSON, …")
        if limit_s is not None and not 0 < limit_s < (self._ttl_s or math.inf):
            raise InvalidRequest("limit_s must be seconds above 0, and less than ttl_s")
        starting = self._spawn(self._start(name, source, format, limit_s, group))
        return await asyncio.shield(starting)

    async def _start(
        self,
        name: str,
        source: Source,
        form: Format,
        limit_s: float | None,
        group: str | None,
    ) -> Run:
        if group is not None:
            await self._join(group, name)
        worker = await self._named(name)
        claim = Claim(worker.id, uuid4().hex, form.name, limit_s)
        run = Run(name, self._places.answer(name), is_new=await self._claim(name, claim, worker))
        if not run.is_new:
            drop(source)
            await self._have_opened(name)
            return run
        carried = Carried(
            self._records, worker, name, form, limit_s=limit_s, linger_s=self._linger_s
        )
        self._carried[name] = carried
        self._spawn(self._carry(carried, source))
        await carried.is_open
        return run

    async def _join(self, group: str, name: str) -> None:
        path = self._places.group(group)
        entry = json_of({"run": name})
        await self._streams.create(path, content_type=_JSON, ttl_s=self._ttl_s)
        try:
            await self._streams.append(path, entry, content_type=_JSON)
        except StreamError as error:
            if not passes(error):
                raise
            await self._streams.append(path, entry, content_type=_JSON)  # twice does no harm

    async def _claim(self, name: str, claim: Claim, worker: Worker) -> bool:
        """Claim a run; whether it is ours."""
        try:
            return await self._records.claim(name, claim) == claim
        except BaseException:
            self._leave(name, _NOT_STARTED, worker, claim)
            raise

    def _leave(self, name: str, end: End, worker: Worker | None, claim: Claim | None) -> None:
        """A run of ours could not be ended, or nobody knows whether it is one: see to it later."""
        if self._sweeping is None:
            self._is_left_open = True  # others find it
        else:
            self._spawn(self._end_at_last(name, end, worker, claim))

    async def _end_at_last(
        self, name: str, end: End, worker: Worker | None, claim: Claim | None
    ) -> None:
        """End a run, if it has this claim, as soon as that can be done, with another token, say.

        While its worker lives nobody else does.
        """
        while worker is None or not worker.is_dead:
            try:
                if claim is None or (await self._records.find(name)).claim == claim:
                    await self._records.end(name, end)
            except (StreamNotFound, StreamGone):
                break
            except NotOpen:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end
                _log.warning("runs: %s cannot be ended now: %r", name, error)
                await asyncio.sleep(self._lease_s / SIGNS)
            else:
                break
        await _note_over(worker, name)

    async def _have_opened(self, name: str) -> None:
        """Have the stream of a run that others carry, or have ended, also where they crashed."""
        status = await self.status(name)
        if status.state is State.RUNNING:
            await self._records.open(name, status.format)
        else:
            await self._records.end(name, End(status.state, status.reason))

    async def _named(self, name: str) -> Worker:
        """The worker of this process, which has said that it is about to claim a run."""
        while True:
            async with self._beginning:
                worker = self._worker
                if worker is None or worker.is_dead:
                    worker = Worker(
                        self._streams, self._places, self._lease_s, self._stopped, self._died
                    )
                    await worker.begin()  # if this fails, it has no runs, and others bury it
                    self._own.add(worker.path)
                    self._worker = worker
            with suppress(StreamClosed, StreamNotFound):
                await worker.note(run=name)
                return worker

    async def _carry(self, carried: Carried, source: Source) -> None:
        try:
            end = await carried.carry(source)
        except BaseException as error:
            self._leave(carried.name, carried.end or _NOT_STARTED, carried.worker, None)
            if isinstance(error, Exception):
                _log.exception("runs: %s could not be ended", carried.name)
            raise
        finally:
            del self._carried[carried.name]
        _log.debug("runs: %s is %s", carried.name, end.state.value)
        await _note_over(carried.worker, carried.name)

    async def hold(self, name: str, form: Format) -> str:
        """Begin a run without a source: the path of its stream, to which whoever holds it appends.

        It is ended by :meth:`release`, or as others are when this process ends.  While the store is
        away it waits.  Raises ``StreamExists`` if there is such a run.
        """
        self._check_open()
        return await asyncio.shield(self._spawn(self._hold(name, form)))

    async def _hold(self, name: str, form: Format) -> str:
        worker = await until_it_works(lambda: self._named(name))
        claim = Claim(worker.id, uuid4().hex, form.name)
        try:
            found = await until_it_works(lambda: self._records.claim(name, claim))
            if found == claim:
                await until_it_works(lambda: self._records.open(name, form.name))
        except BaseException:
            self._leave(name, _NOT_STARTED, worker, claim)
            raise
        if found != claim:
            raise StreamExists(self._places.control(name), "it is another's run")
        self._held[name] = worker
        return self._places.answer(name)

    async def release(self, name: str) -> None:
        """End a run that is held, as done."""
        await self._let_go(name, End(State.DONE))

    async def _let_go(self, name: str, end: End) -> None:
        worker = self._held.pop(name, None)
        try:
            await self._records.end(name, end)
        except BaseException:
            self._leave(name, end, worker, None)
            raise
        await _note_over(worker, name)

    async def delete(self, name: str) -> None:
        """Delete a run and its stream, which has ended; its name is free then."""
        for path in (self._places.answer(name), self._places.control(name)):
            with suppress(StreamNotFound, StreamGone):
                await self._streams.delete(path)

    async def stop(self, name: str, reason: str = "it was stopped") -> Status:
        """Stop a run, wherever it is carried; how it has ended, by this or before.

        It has ended on return, and its stream is closed: who carries it notices at once, or when
        it next appends.  Raises ``StreamNotFound`` if there is no such run.
        """
        self._check_open()
        return await asyncio.shield(self._spawn(self._stop(name, reason)))

    async def _stop(self, name: str, reason: str) -> Status:
        found = await self._records.find(name)
        if found.end is None:
            worker = self._places.worker(found.claim.worker)
            await self._records.end(name, End(State.STOPPED, reason))
            self._stopped(name)
            await tell_to_stop(self._streams, worker, name)
        return await self.status(name)

    def _stopped(self, name: str) -> None:
        if name in self._carried:
            self._carried[name].tell(End(State.STOPPED, "it was stopped"))

    def _died(self, worker: Worker) -> None:
        self._own.discard(worker.path)  # if whoever closed it crashed, we bury it
        for carried in self._carried.values():
            if carried.worker is worker:
                reason = "the process that carried it was silent for too long"
                carried.tell(End(State.ABANDONED, reason))

    async def status(self, name: str) -> Status:
        """Where a run is; ``StreamNotFound`` if there is none.

        One whose process left without a trace is ended.
        """
        self._check_open()
        found = await self._records.find(name)
        end = found.end
        if end is None and name not in self._carried:
            try:
                await self._streams.get_metadata(self._places.worker(found.claim.worker))
            except (StreamNotFound, StreamGone):
                gone = End(State.ABANDONED, "the process that carried it is gone")
                end = await self._records.end(name, gone)
        return Status(
            name,
            self._places.answer(name),
            State.RUNNING if end is None else end.state,
            "" if end is None else end.reason,
            found.claim.format,
        )

    async def latest(self, group: str) -> Status | None:
        """The run of a group that was started last, None if there is none (any more)."""
        self._check_open()
        try:
            started = await all_json(self._streams, self._places.group(group))
        except (StreamNotFound, StreamGone):
            return None
        for entry in reversed(started):
            with suppress(StreamNotFound, StreamGone):
                return await self.status(entry["run"])
        return None

    async def tail_of(self, name: str) -> str:
        """Where the stream that has what a run yields ends now."""
        return (await self._streams.get_metadata(self._places.answer(name))).next_offset

    async def read(self, name: str, offset: str = "-1") -> AsyncGenerator[Piece, None]:
        """What a run yields, from an offset on, then what comes; the last piece has its end.

        Raises ``StreamNotFound`` if there is no such run, and what ``tail`` raises.
        """
        status = await self.status(name)
        form = FORMATS.get(status.format)
        async with aclosing(self._streams.tail(status.path, offset)) as messages:
            async for message in messages:
                offset = message.offset
                if form is TEXT:
                    yield Piece(message.data.decode(errors="replace"), offset)
                elif form is None or not form.is_ending(message.data):
                    yield Piece(message.json(), offset)
        status = await self.status(name)
        yield Piece(None, offset, End(status.state, status.reason))

    def _check_open(self) -> None:
        if self._sweeping is None:
            raise NotOpen

    def _spawn(self, doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._settled)
        return task

    def _settled(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("runs: %r", error)


async def _note_over(worker: Worker | None, name: str) -> None:
    """Have it known that a run of a worker has ended, if that lives."""
    if worker is not None:
        with suppress(StreamClosed, StreamNotFound):
            await worker.note(over=name)
