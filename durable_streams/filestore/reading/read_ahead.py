"""Reading files into the page cache, so that whoever sends from one never waits for a cold disk.

What is in the page cache is read, or sent, at once, on the event loop: that costs microseconds.
What is not is fetched by a thread first.  Where the system or the file system cannot tell the two
apart, all is taken for cached.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from durable_streams.filestore.files.disk import Disk

_READ_BYTES: Final = 256 * KIB  # of one call, after which a reader may have left


class ReadAhead:
    """Has threads read into the page cache."""

    def __init__(self, disk: Disk, executor: Executor | None = None) -> None:
        """``executor``: whose threads are there; the loop starts its own at the first use."""
        self.disk = disk
        self._executor = executor

    async def warm(self, file: int, size: int, position: int) -> None:
        """Have a thread read what the page cache lacks of a slice; its last byte tells."""
        if not self.disk.is_cold(file, position + size - 1):
            return
        try:
            errand = _Errand(self.disk, self.disk.duplicate(file))
        except OSError:  # no descriptor is left: whoever reads waits, and says what fails
            return
        try:
            loop = asyncio.get_running_loop()
            job = loop.run_in_executor(self._executor, errand.run, position, size)
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

    def __init__(self, disk: Disk, file: int) -> None:
        self._disk = disk
        self._file = file
        self._has_begun = False
        self.is_for_nobody = False

    def ended(self, _: object) -> None:
        """The job is done, or never will be (on the event loop)."""
        if not self._has_begun:
            self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        self._disk.close(self._file)

    def run(self, position: int, size: int) -> None:
        """Read a slice into the page cache (in a thread); what fails shows when it is sent."""
        self._has_begun = True
        end = position + size
        try:
            with suppress(OSError):
                while position < end and not self.is_for_nobody:
                    data = self._disk.pread(self._file, min(_READ_BYTES, end - position), position)
                    if not data:
                        return
                    position += len(data)
        finally:
            self.close()
