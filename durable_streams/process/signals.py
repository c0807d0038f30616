"""Signals: the first SIGTERM or SIGINT asks for a stop, a second one ends the process at once.

SIGHUP asks to read the settings again, as often as it comes before that is done: once.

From before anything is opened, so also while it starts and recovers.  The handlers are Python's,
not the event loop's: a loop that is stuck in a system call is interrupted by them, and ended.  They
wake the loop as ``asyncio.Runner`` does for SIGINT, and log nothing themselves, as they may come
upon any line.

What comes when all is done, while Python takes itself apart, changes nothing any more: it would
find Python's handlers gone, and have a stop that was clean end by a signal.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger("durable_streams")


class StopSignals:
    """Whether somebody wants the process to end."""

    def __init__(self) -> None:
        """Take over the signals; in the main thread.

        ``hung_up`` is set by SIGHUP, and cleared by whoever heeds that.
        """
        self.hung_up = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: signal.Signals | None = None
        self._event = asyncio.Event()
        for number in _STOPPING:
            signal.signal(number, self._stop)
        atexit.register(self._ignore)  # before others: done after them, when nothing is written
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not nohup's, nor an application's
            signal.signal(signal.SIGHUP, self._hang_up)

    def attach(self) -> asyncio.Event:
        """Return an event that is set once the running loop has heard of a stop."""
        self._loop = asyncio.get_running_loop()
        if self._asked is not None:
            self._tell_stop()
        return self._event

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._asked is not None:
            os._exit(128 + number)
        self._asked = signal.Signals(number)
        self._on_loop(self._tell_stop)

    def _ignore(self) -> None:
        for number in _STOPPING:
            if signal.getsignal(number) == self._stop:  # not what a program set that calls us
                signal.signal(number, signal.SIG_IGN)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        if self._loop is None:
            self.hung_up.set()  # nobody waits for it yet
        else:
            self._on_loop(self.hung_up.set)

    def _on_loop(self, callback: Callable[[], None]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop was closed: the process is at its end
                self._loop.call_soon_threadsafe(callback)

    def _tell_stop(self) -> None:
        if self._asked is not None and not self._event.is_set():
            logger.info("stopping", extra={"signal": self._asked.name})
        self._event.set()
