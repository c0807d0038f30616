"""The copy of an event loop that a forked process has: with a queue of events of its own.

``fork`` copies the descriptors of a loop, not what they stand for.  A child that ends in an orderly
way (``sys.exit``) closes its copy of the loop and of its connections, and takes them out of the
kernel's one ``epoll``: nothing wakes the parent's loop any more, so no write there is ever
acknowledged.  Nor would the child wake its own loop, as the parent may read what is written to the
pipe that both have.

Neither asyncio nor uvloop does anything about it.  Other loops, and systems without ``epoll``, are
left as they are (``kqueue`` is not inherited).
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

if TYPE_CHECKING:
    import asyncio

_WATCHED: Final = re.compile(rb"^tfd: *(\d+) events: *([0-9a-f]+)", re.MULTILINE)

_loops: Final[WeakSet[asyncio.AbstractEventLoop]] = WeakSet()


def protect(loop: asyncio.AbstractEventLoop) -> None:
    """Have children of this process leave a loop of ours alone, for as long as it lives."""
    _loops.add(loop)


def _part_from_parent() -> None:
    for loop in list(_loops):
        if not loop.is_closed():
            with suppress(OSError):  # no descriptor is left, or no /proc
                _give_own_events(loop)
    _loops.clear()


def _give_own_events(loop: Any) -> None:  # noqa: ANN401 - private attributes of asyncio's and uvloop's
    if hasattr(getattr(loop, "_selector", None), "fileno"):
        queue = loop._selector.fileno()  # noqa: SLF001
        _replace_pipe(loop._ssock.fileno(), loop._csock.fileno())  # noqa: SLF001
    elif hasattr(loop, "_get_backend_id"):
        queue = loop._get_backend_id()  # noqa: SLF001
        _replace_counters(queue)
        with suppress(ValueError):  # in another thread than the one that gets signals
            signal.set_wakeup_fd(-1)  # which would be handled by the parent, whose pipe it is
    else:
        return
    with select.epoll() as own:
        for number, events in _watched(queue):
            with suppress(OSError):  # closed, and the parent has not noticed
                own.register(number, events)
        os.dup2(own.fileno(), queue, inheritable=False)


def _watched(queue: int) -> list[tuple[int, int]]:
    """Descriptors in a queue, with the events that are waited for."""
    found = _WATCHED.findall(Path(f"/proc/self/fdinfo/{queue}").read_bytes())
    return [(int(number), int(events, 16)) for number, events in found]


def _replace_counters(queue: int) -> None:
    """Have counters of events of our own: one of them wakes the loop from other threads.

    Who reads it in the child takes the wake from the parent, and with it all later ones.
    """
    for number, _ in _watched(queue):
        if _kind(number) == "anon_inode:[eventfd]":
            counter = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            os.dup2(counter, number, inheritable=False)
            os.close(counter)


def _kind(number: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{number}").readlink())
    except OSError:  # closed, and the parent has not noticed
        return ""


def _replace_pipe(*ends: int) -> None:
    for own, copy in zip(socket.socketpair(), ends, strict=True):
        with own:
            own.setblocking(False)
            os.dup2(own.fileno(), copy, inheritable=False)


if hasattr(select, "epoll"):
    os.register_at_fork(after_in_child=_part_from_parent)
