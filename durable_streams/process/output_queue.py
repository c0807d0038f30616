"""Writing to a standard stream without ever waiting for whoever reads it.

A thread writes; whoever gives it something goes on.  When nobody reads (a stuck log shipper, a
full disk), what has to wait is bounded, and what comes beyond that is dropped and counted; the
count is told as soon as something can be written again.  A signal's handler or a finalizer may
interrupt any line here and write as well.

The ``QueueHandler`` and ``QueueListener`` of the standard library serve less: they queue log
records only, print to the very stream that blocks when their queue is full, and wait without a
limit at the end.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of what was given and not written yet: some ten thousand lines, what a busy minute logs."""

FLUSH_S: Final = 1.0
"""How long the end of the process waits for what is not written yet."""

TELL_S: Final = 10.0
"""Between two counts of what was dropped, while more is dropped all the time."""

_OVERHEAD_BYTES: Final = 64
"""What an entry takes beside its bytes."""


class OutputQueue:
    """A descriptor's queue, and the thread that writes what is in it."""

    def __init__(self, fd: int, dropped: Callable[[int], None]) -> None:
        """``dropped`` is told, by the thread, how many entries were; it may write to the queue."""
        self._fd = fd
        self._tell_dropped = dropped
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._is_telling = self._is_torn = False
        self._tell_again_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"output-{fd}", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Have ``data`` written whole, after what was given before, or dropped; never waits."""
        with self._changed:
            size = len(data) + _OVERHEAD_BYTES
            is_full = self._waiting and self._waiting_bytes + size > MAX_WAITING_BYTES
            if is_full and threading.get_ident() != self._thread.ident:  # a count is always taken
                self._dropped += 1
                return
            self._waiting.append(data)
            self._waiting_bytes += size
            self._changed.notify_all()

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until all is written, or for so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(self._is_done, timeout_s)

    def _is_done(self) -> bool:
        return not (self._waiting or self._is_telling)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
            written = self._put(data)
            with self._changed:
                self._waiting.popleft()
                self._waiting_bytes -= len(data) + _OVERHEAD_BYTES
                self._dropped += not written
                count = self._take_count() if written else 0
                self._is_telling = count > 0
                self._changed.notify_all()
            if count:
                self._tell_dropped(count)
                with self._changed:
                    self._is_telling = False
                    self._changed.notify_all()

    def _put(self, data: bytes) -> bool:
        """Write an entry on a line of its own; whether it could be."""
        rest = memoryview(b"\n" + data if self._is_torn else data)
        size = len(rest)
        try:
            while rest:
                rest = rest[write_some(self._fd, rest) :]
        except OSError:
            self._is_torn = self._is_torn or len(rest) < size
            return False
        self._is_torn = False
        return True

    def _take_count(self) -> int:
        """How many were dropped, if it is time to tell."""
        now_s = time.monotonic()
        if not self._dropped or (self._waiting and now_s < self._tell_again_s):
            return 0
        self._tell_again_s = now_s + TELL_S
        count, self._dropped = self._dropped, 0
        return count


def write_some(fd: int, data: bytes | memoryview) -> int:
    """Write what the system takes at once, at least a byte; waits for that.

    Also where the descriptor does not block: whoever shares it with us may have made it such a one.
    """
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            select.select([], [fd], [])
