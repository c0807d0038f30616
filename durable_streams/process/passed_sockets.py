"""Sockets that systemd opened and passed on (``sd_listen_fds(3)``), which a server then uses.

They are the descriptors from 3 on, ``LISTEN_FDS`` of them, for the process that ``LISTEN_PID``
names: a child of that one has the variables, but they are not for it.  What was passed and is not
of use is an error; to serve elsewhere instead would be a server that nobody looks for.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Final

from durable_streams.process.addresses import CannotListen

if TYPE_CHECKING:
    from collections.abc import MutableMapping

FIRST: Final = 3
"""Behind the standard streams."""

MAX_SOCKETS: Final = 64
"""More than anybody has addresses; a number that is no count of descriptors is found by it."""

_NAMES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")

_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6, socket.AF_UNIX})


def take(environment: MutableMapping[str, str], pid: int) -> list[socket.socket]:
    """The sockets that were passed to this process, whose id is ``pid``; none if none were.

    The variables are removed, so that no child takes them for its own.  :class:`CannotListen` if
    something was passed that is no socket for connections, which listens.
    """
    told = {name: environment.pop(name, "") for name in _NAMES}
    if told["LISTEN_PID"] != str(pid):
        return []
    count = told["LISTEN_FDS"]
    if not (count.isascii() and count.isdecimal() and len(count) < 4) or int(count) > MAX_SOCKETS:
        raise CannotListen(
            f"LISTEN_FDS is {count!r}: it has to be a number of sockets, {MAX_SOCKETS} at most"
        )
    names = told["LISTEN_FDNAMES"].split(":")
    sockets: list[socket.socket] = []
    try:
        for at in range(int(count)):
            sockets.append(_taken(FIRST + at, names[at] if at < len(names) else ""))  # noqa: PERF401
    except BaseException:
        for taken in sockets:
            taken.close()
        raise
    return sockets


def _taken(descriptor: int, name: str) -> socket.socket:
    called = f"descriptor {descriptor} ({name!r})" if name else f"descriptor {descriptor}"
    try:
        is_socket = stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError as error:
        raise CannotListen(f"{called} was passed and is not open: {error.strerror}") from error
    if not is_socket:
        raise CannotListen(f"{called} was passed and is no socket: use ListenStream= for each")
    passed = socket.socket(fileno=descriptor)
    if (
        passed.family not in _FAMILIES
        or passed.type != socket.SOCK_STREAM
        or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        passed.close()
        raise CannotListen(
            f"{called} was passed and listens for no connections: use ListenStream= for each, and "
            "Accept=no"
        )
    passed.set_inheritable(False)
    passed.setblocking(False)
    return passed
