"""The executor of an open data directory: whoever gives it a job in vain is told so.

The one of the standard library raises ``RuntimeError``, and whoever waits for a job that a callback
of the event loop was about to submit would wait for ever.  Nor does it tell when its jobs have
ended: those that nobody waits for any more still do something in the data directory.  And a process
that was forked has a copy of it, without its threads.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from durable_streams.filestore.runtime.closing import retrieve
from durable_streams.model.errors import NotOpen, OpenedElsewhere
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Callable

_P = ParamSpec("_P")
_T = TypeVar("_T")


class ClosableExecutor(Executor):
    """Another executor, until the shutdown; then every job fails with :class:`NotOpen`.

    In a forked process it fails with :class:`OpenedElsewhere`.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._process = OwnProcess()
        self._closed = False
        self._unfinished: set[Future[Any]] = set()

    def submit(
        self, fn: Callable[_P, _T], /, *arguments: _P.args, **named: _P.kwargs
    ) -> Future[_T]:
        """Have a job done, or failed; never raises."""
        if self._closed:
            return _failed(NotOpen())
        try:
            self._process.check()
        except OpenedElsewhere as error:
            return _failed(error)
        job = self._executor.submit(fn, *arguments, **named)
        self._unfinished.add(job)
        job.add_done_callback(self._unfinished.discard)
        return job

    async def finished(self) -> None:
        """Return when no job is done any more, whether somebody waits for it or has left."""
        while jobs := list(self._unfinished):
            ends = [asyncio.wrap_future(job) for job in jobs]
            for end in ends:
                end.add_done_callback(retrieve)
            await asyncio.wait(ends)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs."""
        self._closed = True
        self._executor.shutdown(wait=wait, cancel_futures=cancel_futures)


def _failed(error: Exception) -> Future[Any]:
    job: Future[Any] = Future()
    job.set_exception(error)
    return job
