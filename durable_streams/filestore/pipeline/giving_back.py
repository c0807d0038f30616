"""What the apply thread keeps open, given back to threads that find no descriptor.

It owns those files, so it is asked: it answers before its next write, or when it has nothing to do.
Without that, where a program has taken all descriptors, those that readers gave back for its writes
would never be a reader's again.  What a checkpoint has to sync first is given back after that.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.writer import StreamWriter
    from durable_streams.filestore.runtime.machine import Worker


class GivingBack:
    """Has the worker's jobs done, and between them what others ask for."""

    def __init__(self, worker: Worker, writer: StreamWriter) -> None:
        self._worker = worker
        self._writer = writer
        self._asked: deque[Future[bool]] = deque()
        self._queued = threading.Lock()  # held from when a turn is queued until it is there
        self._thread: int | None = None
        self._syncing_thread: int | None = None
        self._is_over = False

    def do(self, job: Callable[[], None]) -> None:
        """Have a job done; from any thread."""
        self._worker.do(partial(self._do, job))

    def _do(self, job: Callable[[], None]) -> None:
        self._thread = threading.get_ident()
        job()

    def syncing_here(self) -> None:
        """A checkpoint syncs what it took in this thread, which cannot wait for the end of that."""
        self._syncing_thread = threading.get_ident()

    def ask(self) -> Future[bool]:
        """Ask, in any thread, for what is only kept open; whether there was anything.

        There is nothing for the worker itself, which closes its own (``Applier._guard``), nor for a
        checkpoint, which needs no more than it has (``sync_dirty``).
        """
        asked: Future[bool] = Future()
        if threading.get_ident() in {self._thread, self._syncing_thread}:
            asked.set_result(False)
            return asked
        self._asked.append(asked)
        if self._is_over:  # looked at after it was appended, so it is answered here or there
            self._tell(had_any=False)
        elif self._queued.acquire(blocking=False):
            self._worker.do(self._turn)
        return asked

    def _turn(self) -> None:
        self._queued.release()
        self.answer()

    def answer(self) -> None:
        """In the worker: close what is only kept open, if somebody has asked."""
        if self._asked:
            had_any = self._writer.give_back()
            if had_any or not self._writer.holds_files:
                self._tell(had_any=had_any)

    def end(self) -> None:
        """The worker has ended."""
        self._is_over = True
        self._tell(had_any=False)

    def _tell(self, *, had_any: bool) -> None:
        for _ in range(len(self._asked)):
            try:
                asked = self._asked.popleft()
            except IndexError:  # another thread was faster
                return
            asked.set_result(had_any)
