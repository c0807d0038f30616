"""Data directories are not shared with child processes: their descriptors lead nowhere there.

``fork`` copies every descriptor, and with it the lock: it is held until the last copy is closed, be
it by a worker that idles in some pool.  So in a child the numbers that the parent has open for its
data directories lead nowhere from the first moment on; it never unlocks them, which would take the
lock from the parent as well.  No number is given back: objects that were copied along with it
may close it once more, when it had long been a file of the child's own.

A program that is executed (``subprocess``) has none of them, as all are closed by ``exec``.  Python
calls the hooks here in every ``fork`` of its own; whatever forks in another language and goes on as
a process of its own keeps the lock.
"""

from __future__ import annotations

import os
import threading
from typing import Final

_NOWHERE: Final = os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
"""How the root directory is opened: nothing can be read or written by such a descriptor."""

_numbers: set[int] = set()
"""What this process has open for data directories; numbers are the process's, so this is, too."""

no_fork: Final = threading.RLock()
"""Held while a descriptor with a lock is opened or closed: no child comes to be before
:func:`opened` has been told of it, or between its end and :func:`closing`."""


def opened(fd: int) -> int:
    """A descriptor that no child is to have; returns it."""
    _numbers.add(fd)
    return fd


def closing(fd: int) -> None:
    """It is about to be closed: from now on the number may be somebody else's."""
    _numbers.discard(fd)


def _let_go() -> None:
    """In the child: have all numbers lead nowhere."""
    numbers = sorted(_numbers)
    _numbers.clear()
    if not numbers:
        return
    nowhere = numbers[0]
    os.close(nowhere)  # first, as there may be no number left to open anything with
    try:
        fd = os.open("/", _NOWHERE)
        if fd != nowhere:
            os.dup2(fd, nowhere, inheritable=False)
            os.close(fd)
    except OSError:  # the whole system has none left: the lock has to go all the same
        for number in numbers[1:]:
            os.close(number)
        return
    for number in numbers[1:]:
        os.dup2(nowhere, number, inheritable=False)


os.register_at_fork(
    before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release
)
os.register_at_fork(after_in_child=_let_go)
