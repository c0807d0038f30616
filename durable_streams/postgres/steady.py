"""Coroutines that nothing cancels: statements of the database, once they are on their way.

Cancelling a statement makes the driver send a cancel request.  To a commit that waits for a standby
that is an end of the wait: every session sees it then, replicated or not.  ``asyncio.shield`` does
not help, as the end of ``asyncio.run`` cancels every task there is.  So statements are no tasks.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")


def steadily(work: Coroutine[Any, Any, _T]) -> asyncio.Future[_T]:
    """Run a coroutine to its end, whoever awaits that, or is cancelled while it does.

    The coroutine must not ask for its task, as timeouts of asyncio do.
    """
    return _Steps(work).done


class _Steps(Generic[_T]):
    """What a task does for a coroutine, but that it cannot be cancelled."""

    def __init__(self, work: Coroutine[Any, Any, _T]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[_T] = self._loop.create_future()
        self._step()

    def _step(self, *_: asyncio.Future[Any]) -> None:
        """Go on; what was awaited is done, and the coroutine asks it for its outcome."""
        try:
            waits_for = self._work.send(None)
        except StopIteration as end:
            if not self.done.done():
                self.done.set_result(end.value)
        except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
            if not self.done.done():
                self.done.set_exception(error)
                self.done.exception()  # of whom nobody waits for any more, nobody has to hear
        else:
            if waits_for is None:
                self._loop.call_soon(self._step)
            else:
                waits_for._asyncio_future_blocking = False  # noqa: SLF001 - as tasks do
                waits_for.add_done_callback(self._step)
