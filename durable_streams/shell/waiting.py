"""Waiting for a standard stream in an event loop, so that a Ctrl-C is heard meanwhile.

No thread waits in a system call: one that does could not be ended.  What select says is ready does
not block: of a pipe, at most ``PIPE_BUF`` bytes (POSIX); a file is always ready.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES: Final = 64 * 1024
_AT_ONCE: Final = select.PIPE_BUF
"""What a pipe takes without blocking once it takes anything."""

_TO_A_FILE: Final = 1024 * 1024


async def readable(fd: int) -> None:
    """Return when there is something to read, the end too."""
    if not select.select([fd], [], [], 0)[0]:
        await _event(fd, asyncio.get_running_loop().add_reader)


async def write_all(fd: int, data: bytes) -> None:
    """Write all of it, a piece whenever there is room; raises ``OSError``."""
    rest = memoryview(data)
    at_once = _TO_A_FILE if stat.S_ISREG(os.fstat(fd).st_mode) else _AT_ONCE
    while rest:
        if not select.select([], [fd], [], 0)[1]:
            await _event(fd, asyncio.get_running_loop().add_writer)
        try:
            rest = rest[os.write(fd, rest[:at_once]) :]
        except BlockingIOError:  # somebody else who has it was faster
            await _event(fd, asyncio.get_running_loop().add_writer)


async def _event(fd: int, add: Callable[..., None]) -> None:
    loop = asyncio.get_running_loop()
    happened = loop.create_future()

    def happen() -> None:
        if not happened.done():
            happened.set_result(None)

    add(fd, happen)
    try:
        await happened
    finally:
        loop.remove_reader(fd) if add == loop.add_reader else loop.remove_writer(fd)


async def nobody_reads(fd: int) -> None:
    """Return when the reader of a pipe has left; for ever if it is no pipe, or there is one."""
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        await asyncio.Event().wait()
    await _event(fd, asyncio.get_running_loop().add_reader)
