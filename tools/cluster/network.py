"""Addresses for machines on one machine, and cuts between them.

On :class:`Loopback` each has an address in ``127.0.0.0/8``, and nothing can be cut.  With
:class:`Namespaces` each is in a network namespace of its own, behind a bridge; then packets from
one to another can be made to vanish, one way or both, as they do on a cable that is cut.  That
takes a process that is in a namespace of its own already: see :func:`alone`.
"""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from tools.postgres_cluster.installed import as_user
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

_APART: Final = "DS_IN_OWN_NAMESPACES"
"""Set in a process that :func:`alone` started."""

_OWN: Final = Path("/proc/self/ns/net")
_BRIDGE: Final = "machines"
_ESTABLISHED: Final = "01"
_FILTER: Final = "6,40 0 0 12,21 0 3 2048,32 0 0 30,21 0 1 {target},6 0 0 2,6 0 0 4294967295"
"""In BPF: a packet of IPv4 (2048) to that address is dropped (2); all others are not judged."""


class Network(Protocol):
    """Where machines are, by their numbers from 1 on."""

    can_cut: bool

    def begin(self, directory: Path, numbers: Sequence[int]) -> None:
        """Make what is needed; processes of it work in ``directory``, and end with it."""

    def address(self, number: int) -> str:
        """The address of a machine."""

    def start(
        self, number: int, command: Sequence[str], *, as_postgres: bool, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a process on a machine, perhaps as the user who runs PostgreSQL."""

    def cut(self, source: int, target: int) -> None:
        """Let what one machine sends to another vanish."""

    def mend(self) -> None:
        """Undo all cuts."""


class Loopback:
    """``127.N.0.1`` and the next ones, with an N that no other cluster has meanwhile."""

    can_cut = False

    def begin(self, directory: Path, numbers: Sequence[int]) -> None:
        for n in random.sample(range(2, 250), 248):
            self._mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with suppress(OSError):
                self._mark.bind(f"\0durable-streams-machines-{n}")  # the kernel has it, no file
                self._n = n
                return
            self._mark.close()
        raise OSError("no range of addresses is free")

    def address(self, number: int) -> str:
        return f"127.{self._n}.0.{number}"

    def start(
        self, number: int, command: Sequence[str], *, as_postgres: bool, **options: Any
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, **options, **(as_user() if as_postgres else {}))

    def cut(self, source: int, target: int) -> None:
        raise NotImplementedError("the loopback interface cannot be cut")

    def mend(self) -> None:
        return


class Namespaces:
    """A network namespace for each machine; all end with the processes in them."""

    can_cut = True

    def __init__(self) -> None:
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._cuts: dict[int, int] = {}

    def begin(self, directory: Path, numbers: Sequence[int]) -> None:
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", _BRIDGE, "type", "bridge")
        _run("ip", "address", "add", "10.99.0.254/24", "dev", _BRIDGE)
        _run("ip", "link", "set", _BRIDGE, "up")
        for number in numbers:
            holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"], cwd=directory)
            self._holders[number] = holder
            own = Path(f"/proc/{holder.pid}/ns/net")
            wait_until(partial(_is_other, own), "a namespace")
            pair = ["type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)]
            _run("ip", "link", "add", f"v{number}", *pair)
            _run("ip", "link", "set", f"v{number}", "master", _BRIDGE, "up")
            inside = self._inside(number)
            _run(*inside, "ip", "address", "add", f"{self.address(number)}/24", "dev", "eth0")
            _run(*inside, "ip", "link", "set", "eth0", "up")
            _run(*inside, "ip", "link", "set", "lo", "up")

    def _inside(self, number: int) -> list[str]:
        return ["nsenter", f"--net=/proc/{self._holders[number].pid}/ns/net"]

    def address(self, number: int) -> str:
        return f"10.99.0.{number}"

    def start(
        self, number: int, command: Sequence[str], *, as_postgres: bool, **options: Any
    ) -> subprocess.Popen[bytes]:
        ids: list[str] = []
        if as_postgres and as_user():
            user = pwd.getpwnam(as_user()["user"])
            ids = [f"--setuid={user.pw_uid}", f"--setgid={user.pw_gid}"]
        return subprocess.Popen([*self._inside(number), *ids, *command], **options)

    def cut(self, source: int, target: int) -> None:
        device = ["dev", f"v{source}"]
        count = self._cuts[source] = self._cuts.get(source, 0) + 1
        if count == 1:
            _run("tc", "qdisc", "add", *device, "clsact")
        code = _FILTER.format(target=int.from_bytes(socket.inet_aton(self.address(target))))
        rule = ["ingress", "prio", str(count), "protocol", "all", "bpf", "da", "bytecode", code]
        _run("tc", "filter", "add", *device, *rule)

    def mend(self) -> None:
        for source in self._cuts:
            _run("tc", "qdisc", "del", "dev", f"v{source}", "clsact")
        self._cuts.clear()


def _is_other(namespace: Path) -> bool:
    return namespace.readlink() != _OWN.readlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def connections_to(address: str, port: int) -> int:
    """How many connections of TCP over IPv4 lead there from this process's network."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)  # as the kernel prints it
    wanted = [f"{number:08X}:{port:04X}", _ESTABLISHED]
    rows = Path("/proc/net/tcp").read_text().splitlines()
    return sum(row.split()[2:4] == wanted for row in rows)


def namespaces_problem() -> str | None:
    """Why networks cannot be cut here; None if they can."""
    missing = [name for name in ("unshare", "nsenter", "ip", "tc") if shutil.which(name) is None]
    if missing:
        return f"{' and '.join(missing)} not found"
    tried = subprocess.run([*_unshare(), "true"], check=False, capture_output=True)
    return tried.stderr.decode().strip() or None


def _unshare() -> list[str]:
    """What makes a network and mounts; who is not root may in a user namespace alone."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return ["unshare", *users, "--net", "--mount", "--propagation", "private"]


def alone() -> bool:
    """Go on in a network and with mounts of this process's own, if that is permitted.

    True where it does; the program begins again there.  What it makes ends with it.
    """
    if os.environ.pop(_APART, None):
        return True
    if namespaces_problem() is not None:
        return False
    sys.stdout.flush()
    os.environ[_APART] = "1"
    unshare = _unshare()
    return os.execvp(unshare[0], [*unshare, sys.executable, *sys.orig_argv[1:]])
