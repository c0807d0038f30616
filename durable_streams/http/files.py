"""Reading slices of files without stopping the event loop on a cold disk.

What is in the page cache is read at once, on the loop: that costs microseconds.  What is not is
fetched by a thread first.  ``preadv2`` with ``RWF_NOWAIT`` tells the two apart; where the
system or the file system cannot tell, everything is taken for cached.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from concurrent.futures import Executor

READ_BYTES: Final = 256 * KIB
"""Of one read call."""

_RWF_NOWAIT: Final[int | None] = getattr(os, "RWF_NOWAIT", None)


async def warm(file: int, position: int, size: int, executor: Executor | None = None) -> None:
    """Have a thread read what the page cache lacks of a slice; its last byte tells.

    ``executor``: whose threads are there; the loop starts its own at the first use, if it can.
    """
    if _RWF_NOWAIT is None:
        return
    try:
        os.preadv(file, [bytearray(1)], position + size - 1, _RWF_NOWAIT)
    except BlockingIOError:
        await _read_ahead(file, position, size, executor)
    except OSError:
        return


async def _read_ahead(file: int, position: int, size: int, executor: Executor | None) -> None:
    """Have a thread read a slice into the page cache."""
    try:
        errand = _Errand(os.dup(file))
    except OSError:  # no descriptor is left: whoever reads waits for the disk, and says what fails
        return
    try:
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(executor, errand.run, position, size)
    except BaseException:
        errand.close()
        raise
    job.add_done_callback(errand.ended)
    try:
        await asyncio.shield(job)
    except asyncio.CancelledError:
        errand.is_for_nobody = True
        raise


class _Errand:
    """What a thread does for a reader who may leave, and close the file, while it does.

    So it has a descriptor of its own, which it closes itself; if the reader has left it reads
    nothing more.  An executor that was shut down may refuse it, or drop it from its queue: one that
    never began is closed when its job has ended.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self._has_begun = False
        self.is_for_nobody = False

    def ended(self, _: object) -> None:
        """The job is done, or never will be (on the event loop)."""
        if not self._has_begun:
            self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._file)

    def run(self, position: int, size: int) -> None:
        """Read a slice into the page cache (in a thread); what fails shows when it is sent."""
        self._has_begun = True
        end = position + size
        try:
            with suppress(OSError):
                while position < end and not self.is_for_nobody:
                    data = os.pread(self._file, min(READ_BYTES, end - position), position)
                    if not data:
                        return
                    position += len(data)
        finally:
            self.close()
