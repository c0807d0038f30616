"""Being told when the server is told to stop.

Servers of ASGI stop to accept connections, wait for the answers that are under way, and only then
say so to applications: an answer that goes on as long as nobody ends it holds them up.  All of them
know of it by a signal.  Its handler is replaced by one that calls it as well.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

STOPPING: Final = (signal.SIGINT, signal.SIGTERM)

logger = logging.getLogger("durable_streams")


@contextmanager
def called_on_signals(stop: Callable[[], object]) -> Iterator[None]:
    """Have ``stop`` called in the event loop when a signal asks the process to end.

    Only a handler that is there is replaced, and put back at the end: a signal that nobody handles
    ends the process, as before.
    """
    if threading.current_thread() is not threading.main_thread():
        logger.warning(
            "live reads do not end on a signal: the application does not run in the main thread"
        )
        yield
        return
    loop = asyncio.get_running_loop()
    replaced = [_Chained(number, loop, stop) for number in STOPPING]
    for one in replaced:
        one.put()
    try:
        yield
    finally:
        for one in replaced:
            one.remove()


class _Chained:
    """A handler of one signal, with the one that was there before."""

    def __init__(
        self, number: signal.Signals, loop: asyncio.AbstractEventLoop, stop: Callable[[], object]
    ) -> None:
        self._number = number
        self._loop = loop
        self._stop = stop
        self._before: Any = None

    def put(self) -> None:
        """Begin to handle it."""
        before = signal.getsignal(self._number)
        if callable(before):
            self._before = before
            signal.signal(self._number, self._handle)

    def remove(self) -> None:
        """Handle it no more, unless somebody else does by now."""
        if self._before is not None and signal.getsignal(self._number) == self._handle:
            signal.signal(self._number, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)
        self._before(number, frame)
