"""A machine with a database: etcd, Patroni, and the PostgreSQL that Patroni starts.

All of its processes work in its directory, and that tells them, however they were started.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, Final

from tools.cluster import patroni
from tools.cluster.clocks import OURS, Clock
from tools.cluster.programs import ETCD, patroni_command
from tools.postgres_cluster.installed import beside_postgres, environment, give, program, run
from tools.postgres_cluster.processes import (
    continue_all,
    kill_all,
    send,
    stop_all,
    wait_until,
    working_in,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.cluster.network import Network

_ANSWER_S: Final = 2.0
_SWITCH_S: Final = 60.0


class Machine:
    """One of those with a database; ``number`` is from 1 on, ``name`` what Patroni calls it."""

    def __init__(self, network: Network, number: int, directory: Path, clock: Clock = OURS) -> None:
        """``directory``: of the cluster; the machine makes one of its own there.

        ``clock``: of its Patroni and PostgreSQL; etcd goes by ours.
        """
        self._network = network
        self.clock = clock
        self.number = number
        self.name = f"db{number}"
        self.directory = directory / self.name
        self.wal_directory = self.directory / patroni.WAL
        self.address = network.address(number)
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self, addresses: Sequence[str]) -> None:
        """Configure it; its directories are there.  ``addresses``: of all machines, in order."""
        self._peers = ",".join(
            f"db{number}=http://{address}:{patroni.PEER_PORT}"
            for number, address in enumerate(addresses, 1)
        )
        text = patroni.configuration(self.name, self.address, self.directory, addresses)
        (self.directory / "patroni.yml").write_text(json.dumps(text, indent=1))  # YAML as well
        for directory in (self.directory, self.wal_directory):
            give(directory)

    # -- from start to end ---------------------------------------------------------------------

    def start(self) -> None:
        """Start whatever does not run: etcd, and Patroni, which starts PostgreSQL."""
        self.start_etcd()
        self.start_patroni()

    def start_anew(self) -> None:
        """Start it without what its PostgreSQL has: Patroni takes a copy of the primary's."""
        self.kill()
        for directory in (self.directory / "data", self.wal_directory / "pg_wal"):
            shutil.rmtree(directory)
        self.start()

    def start_etcd(self) -> None:
        ours, peer = (
            f"http://{self.address}:{patroni.CLIENT_PORT}",
            f"http://{self.address}:{patroni.PEER_PORT}",
        )
        options = {
            "name": self.name,
            "data-dir": str(self.directory / "etcd"),
            "listen-client-urls": ours,
            "advertise-client-urls": ours,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": self._peers,
            "log-level": "error",
        }
        self._start(
            "etcd", [program(ETCD), *(f"--{name}={value}" for name, value in options.items())]
        )

    def start_patroni(self) -> None:
        command = [*patroni_command(self.clock.ahead_s), str(self.directory / "patroni.yml")]
        self._start("patroni", command, self.clock)

    def _start(self, what: str, command: Sequence[str], clock: Clock = OURS) -> None:
        before = self._started.get(what)
        if before is not None and before.poll() is None:
            return
        with (self.directory / f"{what}.log").open("ab") as log:
            self._started[what] = self._network.start(
                self.number,
                command,
                as_postgres=True,
                cwd=self.directory,
                env={**environment(), **clock.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is not meant for it
            )

    def kill(self) -> None:
        """SIGKILL all of it: the machine has lost its power."""
        kill_all(self.directory)
        for process in self._started.values():
            process.wait()

    def kill_one(self, what: str) -> None:
        """SIGKILL ``etcd`` or ``patroni`` alone."""
        process = self._started[what]
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def kill_postgres(self) -> None:
        """SIGKILL PostgreSQL, all of its processes at once."""
        data = self.directory / "data"
        for pid in working_in(data):
            send(pid, signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP all of it: the machine stands still, its connections stay."""
        stop_all(self.directory, self.postmaster)

    def resume(self) -> None:
        """SIGCONT all of it."""
        continue_all(self.directory)

    @property
    def is_running(self) -> bool:
        """Whether etcd and Patroni are there; Patroni sees to PostgreSQL."""
        return all(process.poll() is None for process in self._started.values())

    @property
    def pids(self) -> dict[str, int]:
        """The process ids of ``etcd``, ``patroni`` and ``postgres``."""
        started = {what: process.pid for what, process in self._started.items()}
        return started | {"postgres": self.postmaster}

    @property
    def postmaster(self) -> int:
        """The process id of PostgreSQL."""
        return int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])

    # -- what it knows -------------------------------------------------------------------------

    def members(self) -> list[dict[str, Any]]:
        """The cluster as its Patroni sees it; empty if that does not answer."""
        url = f"http://{self.address}:{patroni.REST_PORT}/cluster"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER_S) as answer:
                members: list[dict[str, Any]] = json.load(answer)["members"]
        except (OSError, ValueError, KeyError):
            return []
        return members

    def query(self, statement: str, database: str) -> str:
        """Run SQL as the superuser on its PostgreSQL: the values, a line for each row.

        :raises RuntimeError: it failed, or PostgreSQL is not there.
        """
        return run(
            [
                *(beside_postgres("psql"), "--no-psqlrc", "--quiet", "--tuples-only"),
                *("--no-align", "--set", "ON_ERROR_STOP=1", "--host", str(self.directory)),
                *("--port", str(patroni.POSTGRES_PORT), "--user", patroni.SUPERUSER),
                *("--dbname", database, "--command", statement),
            ],
            self.directory,
        ).removesuffix("\n")

    def hand_over(self, successor: Machine) -> None:
        """Have its Patroni make another machine's PostgreSQL the primary, instead of its own.

        :raises OSError: it did not; where it answered, with what it said.
        """
        order = json.dumps({"leader": self.name, "candidate": successor.name}).encode()
        url = f"http://{self.address}:{patroni.REST_PORT}/switchover"
        try:
            urllib.request.urlopen(url, order, timeout=_SWITCH_S).close()
        except urllib.error.HTTPError as error:
            raise OSError(f"{self.name}: {error.code} {error.read().decode()}") from None

    def log(self, what: str) -> str:
        """What ``etcd`` or ``patroni`` wrote, with PostgreSQL's lines in the latter."""
        path = self.directory / f"{what}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_gone(self) -> None:
        """Return when nothing of PostgreSQL runs."""
        wait_until(lambda: not list(working_in(self.directory / "data")), f"{self.name} is gone")
