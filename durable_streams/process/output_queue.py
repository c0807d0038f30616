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
from bisect import bisect_right
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WAITING_BYTES: Final = 4 * 1024 * 1024
"""Of what was given and not written yet: some ten thousand lines, what a busy minute logs."""

FLUSH_S: Final = 1.0
"""How long the end of the process waits for what is not written yet."""

TELL_S: Final = 10.0
"""Between two counts of what was dropped, while more is dropped all the time."""

LINGER_S: Final = 0.002
"""How long a line may wait for others, if one was written no longer ago: at thousands a second one
write is that of many."""

MAX_WRITE_BYTES: Final = 64 * 1024
"""Of several entries in one write: what a pipe holds."""

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
        self._is_telling = self._is_torn = self._is_flushing = False
        self._tell_again_s = self._written_s = 0.0
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
            self._is_flushing = True
            try:
                return self._changed.wait_for(self._is_done, timeout_s)
            finally:
                self._is_flushing = False

    def _is_done(self) -> bool:
        return not (self._waiting or self._is_telling)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
            self._linger()
            with self._changed:
                some = self._some()
            written = self._put(some)
            self._written_s = time.monotonic()
            with self._changed:
                # The one that failed is given up, what comes behind it is tried next.
                for _ in some[: written + 1]:
                    self._waiting_bytes -= len(self._waiting.popleft()) + _OVERHEAD_BYTES
                self._dropped += written < len(some)
                count = self._take_count() if written == len(some) else 0
                self._is_telling = count > 0
                self._changed.notify_all()
            if count:
                self._tell_dropped(count)
                with self._changed:
                    self._is_telling = False
                    self._changed.notify_all()

    def _linger(self) -> None:
        """Let more come when much does, so that a thread is not woken for every line."""
        is_busy = time.monotonic() < self._written_s + LINGER_S
        if is_busy and not self._is_flushing:
            time.sleep(LINGER_S)

    def _some(self) -> list[bytes]:
        """The first entries that wait, as many as go into one write; at least one."""
        some: list[bytes] = []
        room = MAX_WRITE_BYTES
        for number in range(len(self._waiting)):  # a finalizer may add one meanwhile
            entry = self._waiting[number]
            room -= len(entry)
            if some and room < 0:
                break
            some.append(entry)
        return some

    def _put(self, some: list[bytes]) -> int:
        """Write entries, on a line of their own; how many could be, whole."""
        rest = memoryview((b"\n" if self._is_torn else b"") + b"".join(some))
        torn = int(self._is_torn)
        done = 0
        try:
            while done < len(rest):
                done += write_some(self._fd, rest[done:])
        except OSError:
            ends = list(accumulate(map(len, some), initial=torn))
            written = max(bisect_right(ends, done) - 1, 0)
            if done:
                self._is_torn = done > ends[written]
            return written
        self._is_torn = False
        return len(some)

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
