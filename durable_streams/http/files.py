"""Reading slices of files without stopping the event loop on a cold disk.

What is in the page cache is read at once, on the loop: that costs microseconds.  What is not is
fetched by a thread first.  ``preadv2`` with ``RWF_NOWAIT`` tells the two apart; where the
system or the file system cannot tell, everything is taken for cached.
"""

from __future__ import annotations

import asyncio
import os
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
        # The thread gets a descriptor of its own: a cancelled reader closes the file.
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(executor, _read_ahead, os.dup(file), position, size)
    except OSError:
        return


async def read(file: int, position: int, size: int) -> bytes:
    """Return ``size`` bytes; :class:`EOFError` if the file is shorter."""
    await warm(file, position, size)
    data = os.pread(file, size, position)
    if len(data) < size:
        raise EOFError(f"a file ends at {position + len(data)}, before the slice to be sent does")
    return data


def _read_ahead(file: int, position: int, size: int) -> None:
    """Read a slice into the page cache, and close the descriptor (in a thread)."""
    try:
        end = position + size
        while position < end:
            data = os.pread(file, min(READ_BYTES, end - position), position)
            if not data:
                return
            position += len(data)
    finally:
        os.close(file)
