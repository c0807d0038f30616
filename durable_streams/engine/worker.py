"""A thread that does jobs in order, for work that must not run on the event loop."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Worker:
    """Jobs given to :meth:`do` run one after the other in a thread; they must not raise."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def do(self, job: Callable[[], None]) -> None:
        """Run ``job`` after those given before; callable from any thread."""
        self._jobs.put(job)

    def stop(self) -> None:
        """End the thread when the jobs given so far are done; blocks until then."""
        self._jobs.put(None)
        self._thread.join()
