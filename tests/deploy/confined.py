"""A program that has the kernel forbid what a unit of systemd does, and then becomes another one.

usage: confined.py ALLOWED_CALLS FAMILIES COMMAND...

Both are lists with commas: names of system calls, and numbers of the families of addresses that
sockets may have.  All other calls fail with ``EPERM`` (``SystemCallFilter=``,
``RestrictAddressFamilies=``), and so does making memory executable that could be written
(``MemoryDenyWriteExecute=``).  libseccomp is there wherever systemd is.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import sys
from typing import Final

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EQUAL: Final = 4
_MASKED_EQUAL: Final = 7
_MISSING: Final = -1


class _Compared(ctypes.Structure):
    """``struct scmp_arg_cmp``: an argument of a call, and what it is compared with."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("how", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class Filter:
    """Rules of a filter that does what ``otherwise`` says where none of them fits."""

    def __init__(self, otherwise: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(otherwise))

    def add(self, action: int, call: str, *compared: _Compared) -> None:
        """A call that this kind of machine does not have is passed over."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number == _MISSING:
            return
        rules = (_Compared * len(compared))(*compared)
        added = self._library.seccomp_rule_add_array(
            self._context, action, number, len(compared), rules
        )
        assert added in {0, -errno.EDOM, -errno.EOPNOTSUPP}, (call, added)

    def load(self) -> None:
        loaded = self._library.seccomp_load(self._context)
        assert loaded == 0, loaded


def confine(calls: list[str], families: list[int]) -> None:
    allowed = Filter(_ERRNO | errno.EPERM)
    for call in calls:
        if call != "socket":
            allowed.add(_ALLOW, call)
    for family in families:
        allowed.add(_ALLOW, "socket", _Compared(0, _EQUAL, family, 0))
    executable = _Compared(2, _MASKED_EQUAL, mmap.PROT_EXEC, mmap.PROT_EXEC)
    both = mmap.PROT_EXEC | mmap.PROT_WRITE
    never = Filter(_ALLOW)
    never.add(_ERRNO | errno.EPERM, "mprotect", executable)
    never.add(_ERRNO | errno.EPERM, "pkey_mprotect", executable)
    never.add(_ERRNO | errno.EPERM, "mmap", _Compared(2, _MASKED_EQUAL, both, both))
    never.load()
    allowed.load()


def is_refused(call: str) -> bool:
    try:
        if call == "executable memory":
            mmap.mmap(-1, 4096, prot=mmap.PROT_EXEC | mmap.PROT_WRITE | mmap.PROT_READ).close()
        elif call == "packet socket":
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
        else:
            os.chroot("/")
    except PermissionError:
        return True
    return False


if __name__ == "__main__":
    confine(sys.argv[1].split(","), [int(number) for number in sys.argv[2].split(",")])
    assert all(map(is_refused, ("executable memory", "packet socket", "chroot")))
    os.execv(sys.argv[3], sys.argv[3:])
