"""Where streams were opened: the event loop, thread and process that alone can use them.

Anywhere else a call would wait for ever, or find another loop's futures: it is refused instead.
"""

from __future__ import annotations

import asyncio
import threading

from durable_streams.model.errors import OpenedElsewhere
from durable_streams.own_process import OwnProcess


class Home:
    """The event loop that runs now."""

    __slots__ = ("_loop", "_process", "_thread")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread()
        self._process = OwnProcess()

    def check(self) -> None:
        """Raise :class:`OpenedElsewhere` if this is called from anywhere else."""
        self._process.check()  # a child has a copy of the loop, in which it may be
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise OpenedElsewhere(self._what_to_do())

    def is_left_by_a_child(self, error: BaseException | None) -> bool:
        """Whether a block is left by an exception, such as ``SystemExit``, in a forked process.

        That goes on its way, and nothing is to be closed: it is all the parent's.
        """
        return error is not None and not self._process.is_here

    def _what_to_do(self) -> str:
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
