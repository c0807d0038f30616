"""systemd itself, started beside this machine's, and a service that it runs.

It has namespaces of its own: processes, mounts, cgroups and names.  Its ``/etc``, ``/run``,
``/srv``, ``/var/lib``, ``/opt/durable-streams`` and its units are directories of the test, so
nothing of the machine is changed; the loopback interface is the machine's.  It takes root, and a
hierarchy of cgroups (version 2) that can be written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEMD: Final = Path("/lib/systemd/systemd")
DATA: Final = Path("/var/lib/durable-streams/data")
PROGRAMS: Final = Path("/opt/durable-streams/bin")
UNIT: Final = "durable-streams.service"

_UNITS: Final = (
    *("sysinit", "basic", "multi-user", "sockets", "shutdown", "network-online", "network"),
    *("paths", "timers", "slices", "umount"),
)
"""Targets that exist beside the service, of those that the machine has: nothing else is started."""

_BUS: Final = ("dbus.service", "dbus.socket")

_KEPT: Final = (
    *("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache", "localtime", "dbus-1"),
    *("ssl/certs/ca-certificates.crt", "pip.conf", "resolv.conf"),
)
"""What the other ``/etc`` has of the machine's."""

_OWN: Final = ("/etc", "/opt", "/run", "/srv", "/var/lib")
"""What it has others of than the machine."""

_PRIVATE: Final = ("/home", "/root")
"""What the service's user does not see."""

_WITHOUT_PROCESS: Final = {"auto-restart", "dead", "failed"}

_NAMESPACES: Final = ("--fork", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--kill-child")

_IN_CGROUP: Final = 'echo $$ > "$1/cgroup.procs"; shift; exec setpriv --pdeathsig KILL "$@"'

_BOOT: Final = """
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t proc proc /proc
mount --bind /dev/null /dev/console
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind "$1/etc" /etc
mount --bind "$1/lib" /var/lib
mount --bind "$1/srv" /srv
mount --bind "$1/units" "$2/system"
mount -t tmpfs -o mode=755 tmpfs /opt
mkdir /opt/durable-streams
mount --bind "$1/opt" /opt/durable-streams
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin NOTIFY_SOCKET="$3" \\
    "$2/systemd" --system --unit=multi-user.target --log-target=null --show-status=no </dev/null
"""


def _cgroups() -> Path | None:
    """Where the hierarchy of version 2 is mounted."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def problem() -> str | None:
    """Why systemd cannot be started here, if it cannot."""
    if os.geteuid() != 0:
        return "only root may start another systemd"
    cgroups = _cgroups()
    if cgroups is None or not os.access(cgroups / "cgroup.procs", os.W_OK):
        return "no cgroups of version 2 that can be written"
    for needed, hidden in ((Path(sys.base_prefix), (*_OWN, *_PRIVATE)), (ROOT, _OWN)):
        if any(needed.is_relative_to(place) for place in hidden):
            return f"{needed} is not seen there"
    run = subprocess.run(["unshare", *_NAMESPACES, "true"], capture_output=True, check=False)
    return None if run.returncode == 0 else "no namespaces can be made"


class Systemd:
    """A systemd whose files are below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        for name in ("etc/systemd/system", "etc/durable-streams", "lib", "srv", "opt", "units"):
            (directory / name).mkdir(parents=True)
        self._fill()
        self._cgroup = (_cgroups() or Path()) / f"durable-streams-test-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    def _fill(self) -> None:
        etc, units = self.directory / "etc", self.directory / "units"
        for name in _KEPT:
            there = Path("/etc", name)
            if there.is_dir():
                shutil.copytree(there, etc / name, symlinks=True)
            elif there.exists():
                (etc / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(there, etc / name)
        (etc / "machine-id").write_text(f"{secrets.token_hex(16)}\n")
        for name in (*(f"{target}.target" for target in _UNITS), *_BUS):
            there = SYSTEMD.parent / "system" / name
            if there.exists():
                shutil.copy(there, units / name)
        (units / "sockets.target.wants").mkdir()
        (units / "sockets.target.wants" / "dbus.socket").symlink_to("../dbus.socket")

    def start(self) -> None:
        """Return when it has started all that it is to start."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, self.log.open("wb") as log:
            told.bind(f"\0{self._cgroup.name}")
            told.settimeout(0.1)
            self._cgroup.mkdir()
            boot = ["sh", "-euc", _BOOT, "sh", str(self.directory), str(SYSTEMD.parent.resolve())]
            entering = ["sh", "-euc", _IN_CGROUP, "sh", str(self._cgroup), "unshare", *_NAMESPACES]
            self._process = subprocess.Popen(
                [*entering, *boot, f"@{self._cgroup.name}"], stdout=log, stderr=log
            )
            while self._process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    if b"READY=1" in told.recv(4096).splitlines():
                        return
        raise AssertionError(f"systemd ended: {self.log.read_text()}")

    def end(self) -> None:
        """End all that runs there, at once."""
        if self._process is not None:
            try:
                os.kill(self.pid, signal.SIGKILL)  # and what it has started with it
            except (OSError, IndexError):  # it has ended, or not begun
                self._process.kill()
            self._process.wait()
        if self._cgroup.exists():
            for place in sorted(self._cgroup.rglob("*/"), reverse=True):
                place.rmdir()
            self._cgroup.rmdir()

    @property
    def pid(self) -> int:
        """What its first process is called here."""
        assert self._process is not None
        own = self._process.pid
        return int(Path(f"/proc/{own}/task/{own}/children").read_text().split()[0])

    def entered(self, *command: object) -> list[str]:
        """A command that runs there."""
        entering = ("nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--cgroup")
        return [*entering, f"--wd={ROOT}", "--", *map(str, command)]

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command there, in the clone."""
        # With the Python that ours was made with: another may be where no service comes in.
        path = f"{sys.base_prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return subprocess.run(
            self.entered(*command),
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, *command: object) -> str:
        """What a command prints that ends well there."""
        run = self.run(*command)
        assert run.returncode == 0, f"{command}: {run.stdout}{run.stderr}{self.log.read_text()}"
        return run.stdout

    def shell(self, code: str) -> str:
        """What a block of a document prints there."""
        return self.done("bash", "-euo", "pipefail", "-c", code)

    def told_of(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.done("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def here(self, path: Path | str) -> Path:
        """What a path there is called here."""
        return Path(f"/proc/{self.pid}/root/{path}")


class BootedService(ServerProcess):
    """The service, which ``systemctl`` starts and stops, and systemd itself when it was killed.

    ``port``: where it listens, as it was told.  ``restarts``: how often systemd was about to
    start it by itself.
    """

    def __init__(self, systemd: Systemd, port: int) -> None:
        super().__init__(DATA)
        self.port = port
        self.restarts = 0
        self._systemd = systemd

    @property
    def program(self) -> list[str]:
        return self._systemd.entered(PROGRAMS / "durable-streams-server")

    @property
    def pid(self) -> int:
        """What its process is called here, not there."""
        group = self._systemd.told_of(UNIT, "ControlGroup")
        processes = self._systemd.here(f"sys/fs/cgroup/{group}/cgroup.procs").read_text()
        return int(processes.split()[0])

    @property
    def running(self) -> bool:
        return self._systemd.told_of(UNIT, "ActiveState") == "active"

    def start(self) -> None:
        """Wait until it serves: started by this, or by systemd itself when it was killed."""
        self._systemd.done("systemctl", "start", UNIT)

    def start_and_kill(self, after_s: float) -> None:
        self._systemd.done("systemctl", "start", "--no-block", UNIT)
        time.sleep(after_s)
        self.kill()

    def kill(self) -> None:
        """Return when there is no process; there may have been none, as it was killed before."""
        while (state := self._systemd.told_of(UNIT, "SubState")) not in _WITHOUT_PROCESS:
            self._systemd.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
        self.restarts += state == "auto-restart"

    def stop(self) -> int:
        self._systemd.done("systemctl", "stop", UNIT)
        return int(self._systemd.told_of(UNIT, "ExecMainStatus"))


@contextlib.contextmanager
def booted(directory: Path) -> Iterator[Systemd]:
    """Start systemd, and end it with all that it runs."""
    systemd = Systemd(directory)
    try:
        systemd.start()
        yield systemd
    finally:
        systemd.end()
