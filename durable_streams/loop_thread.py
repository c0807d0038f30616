"""An event loop in a thread of its own, in which something is open: for programs that have none.

Any number of threads have coroutines carried out there and wait for what becomes of them.  None
waits for ever: what is handed over is carried out, also while the end comes, or refused.

The thread is a daemon, as the interpreter would wait for any other at its exit.  What was open then
ends with the process, as in a crash.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from durable_streams.model.errors import NotOpen
from durable_streams.own_process import OwnProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

_T = TypeVar("_T")
_V = TypeVar("_V")


class LoopThread(Generic[_T]):
    """What an async context manager opens, as :attr:`opened`, until :meth:`close`.

    ``process``: in which it is.
    """

    def __init__(self, opening: AbstractAsyncContextManager[_T]) -> None:
        """Open it; raises what that does, and ``RuntimeError`` if there are no more threads."""
        check_that_no_loop_runs()
        self.process = OwnProcess()
        self._opening = opening
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._gate = threading.RLock()  # a signal's handler may come in between
        self._is_open = False
        self._waiting: set[Future[Any]] = set()
        self._opened: Future[_T] = Future()
        self._ended: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="durable-streams-loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise
        try:
            self.opened = self._opened.result()
        except BaseException:
            self.drop()  # if it goes on: Ctrl-C ends the wait for it
            raise

    # -- in any thread ---------------------------------------------------------------------

    def call(self, work: Callable[[], Coroutine[Any, Any, _V]]) -> _V:
        """Wait for what a coroutine returns or raises that is carried out there.

        It is cancelled if the wait is interrupted.  ``NotOpen`` after the end, ``OpenedElsewhere``
        in a forked process, ``RuntimeError`` where an event loop runs.
        """
        answer = self.begin(work)
        try:
            return answer.result()
        except CancelledError:  # somebody else's doing, such as the end of the loop by a bug
            raise NotOpen from None
        finally:
            answer.cancel()
            del answer  # which has the error, which has this frame

    def begin(self, work: Callable[[], Coroutine[Any, Any, _V]]) -> Future[_V]:
        """The same, without the wait."""
        self.check()
        with self._gate:
            if not self._is_open:
                raise NotOpen
            answer = asyncio.run_coroutine_threadsafe(work(), self._loop)
            self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)
        return answer

    def tell(self, callback: Callable[[], None]) -> None:
        """Have something called there some time, if it is open still; waits for nothing."""
        if self.process.is_here:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(callback)

    @property
    def is_ending(self) -> bool:
        """Whether it is being closed, or was."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise if nobody may wait here for anything."""
        self.process.check()
        check_that_no_loop_runs()

    def close(self) -> None:
        """Close what is open, and wait for that; again is as good as once.

        An interruption (Ctrl-C) does not end the closing, nor the wait for it; a second one does
        the latter.
        """
        self.check()
        try:
            self.drop()
            self._ended.result()
        except KeyboardInterrupt:
            self.drop()  # it may have come before that
            self._ended.exception()
            raise
        self._thread.join()

    def drop(self) -> None:
        """Have it closed some time, or not be opened; waits for nothing."""
        self.tell(self._end)

    # -- in the thread ---------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as error:  # noqa: BLE001 - whatever it is, whoever waits is told
            if not self._opened.done():
                self._opened.set_exception(error)
            self._ended.set_exception(error)
        else:
            self._ended.set_result(None)

    async def _live(self) -> None:
        self._task = asyncio.current_task()
        if self._stop.is_set():  # whoever began this has left
            return
        try:
            async with self._opening as opened:
                self._is_open = True
                self._opened.set_result(opened)
                await self._stop.wait()
        finally:
            with self._gate:
                self._is_open = False  # nobody else comes
            while self._waiting:
                last = [asyncio.wrap_future(one) for one in list(self._waiting)]
                await asyncio.gather(*last, return_exceptions=True)

    def _end(self) -> None:
        self._stop.set()
        if self._task is not None and not self._opened.done():
            self._task.cancel()


def check_that_no_loop_runs() -> None:
    """Raise ``RuntimeError`` if one runs in this thread: it would stand still."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError(
        "an event loop runs in this thread, and would stand still meanwhile: use "
        "'async with durable_streams.open(...)' and await its methods, or call this in another "
        "thread, as by asyncio.to_thread"
    )
