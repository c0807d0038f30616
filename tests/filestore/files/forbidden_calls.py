"""A program that has the kernel forbid system calls, as containers do, and then uses streams.

usage: forbidden_calls.py DATA_DIRECTORY ERROR STEP
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import platform
import struct
import sys
from typing import TYPE_CHECKING, Final

import durable_streams
from durable_streams import Settings
from durable_streams.filestore.files.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS: Final = {
    # fdatasync, copy_file_range, preadv2, syncfs, linkat, statfs, fstatfs
    "x86_64": (75, 326, 327, 306, 265, 137, 138),
    "aarch64": (83, 285, 286, 267, 37, 43, 44),
}
"""Numbers of the calls by kind of machine; ``fdatasync`` comes first."""

_NO_NEW_PRIVILEGES: Final = 38
_SECCOMP: Final = 22
_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000


def forbid(number: int) -> None:
    """From now on the calls end with this error; ``fdatasync`` only if it says "no such call"."""
    calls = CALLS[platform.machine()][0 if number == errno.ENOSYS else 1 :]
    steps = [(0x20, 0, 0, 0)]  # load the number of the call
    for call in calls:
        steps += [(0x15, 0, 1, call), (0x06, 0, 0, _ERRNO | number)]  # return, if it is this one
    steps.append((0x06, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    header = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _FILTER, header, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "this machine has no filter of system calls")


def is_forbidden(call: Callable[[], object], number: int) -> bool:
    try:
        call()
    except OSError as error:
        return error.errno == number
    return False


def check(directory: str, number: int) -> None:
    """The calls are forbidden indeed."""
    fd = os.open(__file__, os.O_RDONLY)
    assert is_forbidden(lambda: os.copy_file_range(fd, fd, 1, 0, 0), number)
    assert is_forbidden(lambda: os.link(__file__, f"{directory}.x", follow_symlinks=False), number)
    assert is_forbidden(lambda: os.statvfs(directory), number)
    assert number != errno.ENOSYS or is_forbidden(lambda: os.fdatasync(fd), number)
    assert Disk().pread_cached(fd, 1, 0) is None
    assert not Disk().syncs_sooner_as_a_whole(1000)
    os.close(fd)


async def use(directory: str, step: str) -> None:
    settings = Settings(segment_bytes=4)
    async with durable_streams.open(directory, settings) as streams:
        if step == "first":
            await streams.create("a", content_type="text/plain")
            for number in range(40):
                await streams.create(f"more/{number}")
            await streams.append("a", b"one,")
            await streams.append("a", b"two,")
            await streams.append("a", b"three")
        elif step == "fork":
            await streams.fork("fork", "a")
            await streams.append("a", b" four")
        for path in ("a", "fork") if step != "first" else ("a",):
            data, offset = b"", "-1"
            while True:
                piece = await streams.read(path, offset)
                data, offset = data + piece.data, piece.next_offset
                if piece.up_to_date:
                    break
            print(path, data.decode())


if __name__ == "__main__":
    forbid(int(sys.argv[2]))
    check(sys.argv[1], int(sys.argv[2]))
    asyncio.run(use(sys.argv[1], sys.argv[3]))
