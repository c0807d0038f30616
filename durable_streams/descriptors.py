"""How many descriptors are whose: the system's limit, divided.

Files that are only kept open, answers that are sent from files, and the server's connections each
get a part that grows with the limit; what is left is for the journal, for threads at work, and for
whatever else the program has open.  So none of them ever takes the last descriptor, at which the
system would refuse connections and files at random.

The limit is the soft one, as it is when a data directory is opened.  ``serve`` raises it to the
hard one first; nothing does so in somebody else's program, which may rely on low numbers
(``select``).  Where the program has taken more than is left to it, what is only kept open is given
back (:func:`from_all`), and what was to be opened is tried again.
"""

from __future__ import annotations

import asyncio
import resource
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVED: Final = 64
"""For the journal, directories, threads at work, the event loop, and the program itself."""

LEAST: Final = 192
"""Below this limit a server does not start."""

_FILES_SHARE: Final = 5
"""One part in so many for files that are kept open, half of them for reading, half for writing."""

_ANSWERS_SHARE: Final = 16
_OF_AN_ANSWER: Final = 2  # its file, and a duplicate of its socket
"""One part in so many for each of the two that an answer has which is sent from a file."""

_LEAST_FILES: Final = 8
_LEAST_ANSWERS: Final = 4

MAX_ARRIVING: Final = 1024
"""Connections that are accepted in one turn of the loop, before it is seen that there are too many;
fewer where there are few connections."""

MAX_REFUSED: Final = 256
"""Connections that are told 503 and not closed yet; fewer where there are few connections."""

_SPARE_SHARE: Final = 6
_LEAST_SPARE: Final = 16
_PLENTY: Final = 1 << 30
_PATIENCE_S: Final = 5.0
"""How long a thread waits for the loop to give back what it keeps open.

On a machine that is busy it may take a second until the loop has its turn, and a stream must not be
out of service for that.  Less than ``Tuning.let_go_s``: where the loop has stopped without closing
us, the next opening waits for the thread.
"""


class Descriptors(NamedTuple):
    """The parts: ``files`` kept open, ``answers`` sent from files at a time, ``connections``."""

    files: int
    answers: int
    connections: int


def divide(limit: int, max_files: int) -> Descriptors:
    """Divide a limit, of which at most so many for files that are kept open."""
    most = max(0, limit - RESERVED)
    files = min(max_files, max(_LEAST_FILES, most // _FILES_SHARE))
    answers = max(_LEAST_ANSWERS, most // _ANSWERS_SHARE)
    left = max(0, most - files - _OF_AN_ANSWER * answers)
    # Of six connections there is one arriving and one refused, up to their bounds.
    few = min(left * _SPARE_SHARE // (_SPARE_SHARE + 2), left - 2 * _LEAST_SPARE)
    connections = max(0, few, left - MAX_ARRIVING - MAX_REFUSED)
    return Descriptors(files, answers, connections)


def spare_for(connections: int, most: int) -> int:
    """How many beside so many connections there may be of those that arrive, or are refused."""
    return min(most, max(_LEAST_SPARE, connections // _SPARE_SHARE))


def soft_limit() -> int:
    """How many descriptors the process may have now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _PLENTY if soft == resource.RLIM_INFINITY else soft


def share(max_files: int) -> Descriptors:
    """What there is in this process."""
    return divide(soft_limit(), max_files)


def on_loop(loop: asyncio.AbstractEventLoop, give_back: Callable[[], bool]) -> bool:
    """Give back what is the loop's, in whichever thread this is called; whether there was any."""
    try:
        if asyncio.get_running_loop() is loop:
            return give_back()
    except RuntimeError:
        pass  # a thread
    answer: Future[bool] = Future()
    try:
        loop.call_soon_threadsafe(lambda: answer.set_result(give_back()))
        return answer.result(_PATIENCE_S)
    except (RuntimeError, TimeoutError):  # the loop has ended, or has better things to do
        return False


def from_all(
    loop: asyncio.AbstractEventLoop,
    of_loop: Callable[[], bool],
    of_thread: Callable[[], Future[bool]],
) -> bool:
    """Give back what is the loop's, and if there is nothing, what another thread keeps.

    ``of_thread`` asks that one; the loop does not wait for its answer.
    """
    if on_loop(loop, of_loop):
        return True
    try:
        if asyncio.get_running_loop() is loop:
            return False
    except RuntimeError:
        pass  # a thread
    try:
        return of_thread().result(_PATIENCE_S)
    except TimeoutError:
        return False
