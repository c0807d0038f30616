"""Where streams were opened: the event loop, thread and process that alone can use them.

Anywhere else a call would wait for ever, or find another loop's futures: it is refused instead.
"""

from __future__ import annotations

import asyncio
import os
import threading

from durable_streams.errors import OpenedElsewhere


class Home:
    """The event loop that runs now."""

    __slots__ = ("_loop", "_pid", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._pid = os.getpid()

    def check(self) -> None:
        """Raise :class:`OpenedElsewhere` if this is called from anywhere else."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise OpenedElsewhere(self._what_to_do())

    def _what_to_do(self) -> str:
        if os.getpid() != self._pid:
            return (
                f"the streams were opened in another process (pid {self._pid}), which this one was "
                "forked from: open a data directory of its own in each, or talk to one server"
            )
        if self._loop.is_closed():
            return (
                "the event loop that the streams were opened in has ended: open them in the one "
                "that uses them"
            )
        if threading.current_thread() is not self._thread:
            return (
                f"the streams were opened in the event loop of another thread "
                f"({self._thread.name!r}): give it the coroutine, with "
                "asyncio.run_coroutine_threadsafe(streams.append(...), loop)"
            )
        return "the streams were opened in another event loop: open them in the one that uses them"
