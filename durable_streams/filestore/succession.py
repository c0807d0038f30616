"""Whoever opens a data directory may wait until the one before has closed it, or has ended.

The system tells nobody that a lock is free, but to threads that nothing can interrupt.  So it is
asked for now and then, and between two attempts the event loop goes on: the wait can be cancelled,
and ends with its loop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.directory import absolute
from durable_streams.filestore.files.format_file import check_format
from durable_streams.filestore.opening import close_unused, open_files, open_free_files
from durable_streams.model.errors import DataDirectoryError, DataDirectoryInUse

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.opening import Opened
    from durable_streams.filestore.runtime.supervisor import Supervisor
    from durable_streams.filestore.tuning import Tuning
    from durable_streams.settings import Settings

_THOROUGH: Final = 10
"""One in so many attempts looks for what this process has forgotten, which collects garbage."""

log = logging.getLogger("durable_streams.filestore")


async def open_in_turn(
    supervisor: Supervisor, disk: Disk, data_dir: Path, settings: Settings, tuning: Tuning
) -> Future[Opened]:
    """Open the files, once nobody else has them; waits for ``Settings.lock_wait_s`` at most.

    The result is there: a future as :func:`.close_unused` takes it.  ``DataDirectoryInUse`` after
    the wait.  Of a cancelled caller nothing stays open.
    """
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    end_s, attempt, pid, was_there = begin_s + settings.lock_wait_s, 0, None, False
    submit = supervisor.executor.submit
    is_begun = partial(supervisor.run, _is_begun, disk, data_dir)
    may_be_there = end_s > begin_s and await is_begun()  # looked at before somebody may move it
    while True:
        if attempt % _THOROUGH == 0 or loop.time() >= end_s:
            opening = submit(open_files, disk, data_dir, settings, tuning, was_there=was_there)
        else:
            opening = submit(open_free_files, disk, data_dir, settings, was_there=was_there)
        try:
            await asyncio.wrap_future(opening)
        except DataDirectoryInUse as error:
            if loop.time() >= end_s:
                raise _given_up(error, settings.lock_wait_s) from None
            if attempt == 0 or error.pid != pid:
                _tell(data_dir, error.pid, settings.lock_wait_s)
            attempt, pid = attempt + 1, error.pid
            was_there = was_there or may_be_there or await is_begun()
        except BaseException:
            close_unused(opening)  # of a cancelled caller it may still go on
            raise
        else:
            if attempt:
                log.info("got the data directory after %.1f s", loop.time() - begin_s)
            return opening
        await asyncio.sleep(min(tuning.lock_poll_s, max(0.0, end_s - loop.time())))


def _is_begun(disk: Disk, data_dir: Path) -> bool:
    """Whether there is a data directory; what is wrong with it an attempt to open it tells."""
    try:
        return check_format(disk, absolute(data_dir))
    except (OSError, DataDirectoryError):
        return False


def _tell(data_dir: Path, pid: int | None, wait_s: float) -> None:
    log.warning(
        "the data directory %s is in use by %s: waiting for its end, %s",
        data_dir,
        "another server" if pid is None else f"another server (pid {pid})",
        "however long that takes" if wait_s == math.inf else f"up to {wait_s:g} s in all",
    )


def _given_up(error: DataDirectoryInUse, waited_s: float) -> DataDirectoryInUse:
    if not waited_s:
        return error
    return DataDirectoryInUse(f"waited {waited_s:g} s for nothing: {error}", error.pid)
