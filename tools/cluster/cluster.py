"""Three machines with a database that fails over, two nodes of ours, and a balancer in front."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tools.cluster import patroni
from tools.cluster.clocks import OURS, apart
from tools.cluster.machine import Machine
from tools.cluster.network import Loopback, Network
from tools.cluster.served_node import ServedNode
from tools.postgres_cluster.installed import give
from tools.postgres_cluster.ports import ReservedPort
from tools.postgres_cluster.processes import kill_all, start_reaper

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

MACHINES: Final = 3
NODES: Final = 2
DATABASE: Final = "streams"
_ROOT: Final = Path(__file__).resolve().parent.parent.parent
_LOOK_S: Final = 0.1
_DISK: Final = "1536m"
_WAL_DISK: Final = "512m"
"""Of a machine, and of its write-ahead log, where they have disks of their own."""

_WHOLE: Final = """
select count(*) from pg_stat_replication
where state = 'streaming' and sync_state in ('sync', 'quorum')
"""


class FailoverCluster:
    """All of it, which a context starts and ends; nothing is left, however this process ends.

    Whoever reaches the addresses may do anything in it meanwhile.
    """

    def __init__(
        self,
        network: Network | None = None,
        directory: Path | None = None,
        *,
        has_disks: bool = False,
        clocks_differ: bool = False,
        port: int | None = None,
    ) -> None:
        """``directory``: where to make one for it; None: where temporary files are.

        ``has_disks``: each machine has two disks of its own, in memory, that can be filled.  That
        takes a process with mounts of its own (``network.alone``).
        ``clocks_differ``: that of the first machine is a minute ahead, that of the first node a
        minute behind (:mod:`.clocks`).
        ``port``: of the balancer, on 127.0.0.1; None: any.
        """
        self.network = network or Loopback()
        self._parent = directory
        self._has_disks = has_disks
        self._clocks_differ = clocks_differ
        self._port = port
        self._stack = ExitStack()
        self.machines: list[Machine] = []
        self.nodes: list[ServedNode] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def store(self) -> str:
        """What nodes have as ``--store``: all machines are named."""
        hosts = ",".join(f"{one.address}:{patroni.POSTGRES_PORT}" for one in self.machines)
        return f"postgresql://{patroni.SUPERUSER}@{hosts}/{DATABASE}"

    # -- starting ------------------------------------------------------------------------------

    def _start(self, stack: ExitStack) -> None:
        began = time.monotonic()
        self.directory = Path(tempfile.mkdtemp(prefix="ds-cluster-", dir=self._parent))
        reaper = start_reaper(self.directory)
        assert reaper.stdin is not None
        stack.callback(reaper.wait)
        stack.callback(reaper.stdin.close)
        stack.callback(kill_all, self.directory)
        give(self.directory)
        self.network.begin(self.directory, range(1, MACHINES + NODES + 1))
        ahead, behind = apart() if self._clocks_differ else (OURS, OURS)
        self.machines = [
            Machine(self.network, n, self.directory, ahead if n == 1 else OURS)
            for n in range(1, MACHINES + 1)
        ]
        for machine in self.machines:
            self._prepare(machine)
            machine.start()
        self.wait_whole()
        self.query(f"create database {DATABASE}", "postgres")
        self._run_verb("store", "init", self.store)
        self.nodes = [
            ServedNode(
                self.network, MACHINES + n, f"node{n}", self.directory, behind if n == 1 else OURS
            )
            for n in range(1, NODES + 1)
        ]
        for node in self.nodes:
            node.launch(self.store, "--insecure")  # whoever reaches it may, as said above
        for node in self.nodes:
            node.wait_ready()
        self._start_balancer(stack)
        self.started_in_s = time.monotonic() - began

    def _prepare(self, machine: Machine) -> None:
        for directory, size in ((machine.directory, _DISK), (machine.wal_directory, _WAL_DISK)):
            directory.mkdir()
            if self._has_disks:
                mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", machine.name]
                subprocess.run([*mount, str(directory)], check=True)
        machine.prepare([one.address for one in self.machines])

    def _run_verb(self, *words: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "durable_streams", *words],
            cwd=_ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _start_balancer(self, stack: ExitStack) -> None:
        if self._port is None:
            reserved = ReservedPort()
            stack.callback(reserved.release)
            self._port = reserved.number
        self.url = f"http://127.0.0.1:{self._port}"
        nodes = [node.base_url.removeprefix("http://") for node in self.nodes]
        listen = f"127.0.0.1:{self._port}"
        with (self.directory / "balancer.log").open("wb") as log:
            self._balancer = subprocess.Popen(
                [sys.executable, "-m", "tools.cluster.balancer", listen, *nodes],
                cwd=self.directory,
                env=os.environ | {"PYTHONPATH": str(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        stack.callback(self._balancer.wait)
        stack.callback(self._balancer.kill)
        assert self._balancer.stdout is not None
        stack.callback(self._balancer.stdout.close)
        if b"listening" not in self._balancer.stdout.readline():
            raise RuntimeError((self.directory / "balancer.log").read_text())

    # -- what it is like -----------------------------------------------------------------------

    def members(self) -> list[dict[str, Any]]:
        """What the first machine says that can be asked and knows a leader; else nothing."""
        for machine in self.machines:
            members = machine.members()
            if any(member["role"] == "leader" for member in members):
                return members
        return []

    def leader(self) -> Machine:
        """The machine of the primary, waited for."""
        self.wait(lambda: self._leader_name() is not None, "a primary")
        name = self._leader_name()
        return next(machine for machine in self.machines if machine.name == name)

    def _leader_name(self) -> str | None:
        leaders = [member["name"] for member in self.members() if member["role"] == "leader"]
        return leaders[0] if leaders else None

    def standbys(self) -> list[Machine]:
        """The other machines, also those that are down."""
        leader = self.leader()
        return [machine for machine in self.machines if machine is not leader]

    def busiest(self) -> ServedNode:
        """The node with most connections: what happens to another one may be seen by nobody."""
        return max(self.nodes, key=lambda node: node.connections)

    def marks(self) -> dict[str, str]:
        """What faults change, while all is whole: who the primary is, and each process's id."""
        marks = {node.name: str(node.pid) for node in self.nodes}
        for member in self.members():
            if member["role"] == "leader":
                marks["leader"] = f"{member['name']} {member['timeline']}"
                marks["clock"] = f"{self.primary_ahead_s} s ahead"
        for machine in self.machines:
            marks |= {f"{machine.name} {what}": str(pid) for what, pid in machine.pids.items()}
        return marks

    @property
    def primary_ahead_s(self) -> int:
        """How far the clock of the primary is ahead of ours, to ten seconds."""
        theirs = float(self.query("select extract(epoch from clock_timestamp())", "postgres"))
        return round((theirs - time.time()) / 10) * 10

    def move_primary(self, successor: Machine) -> None:
        """Make a machine's PostgreSQL the primary, as for the upkeep of the one that it is on."""
        self.leader().hand_over(successor)
        self.wait(lambda: self._leader_name() == successor.name, f"{successor.name} is primary")

    @property
    def is_whole(self) -> bool:
        """Whether there are a primary, and standbys that it waits for on all other machines."""
        seen = [machine.members() for machine in self.machines]
        leading = [one["name"] for one in seen[0] if one["role"] == "leader"]
        if len(leading) != 1 or not all(len(members) == MACHINES for members in seen):
            return False
        try:
            return self.query(_WHOLE, "postgres") == str(MACHINES - 1)
        except RuntimeError:  # it takes no sessions
            return False

    def wait_whole(self, within_s: float = 180) -> None:
        """Return when :attr:`is_whole`, and the nodes there are can do something."""
        self.wait(lambda: self.is_whole, "the cluster is whole", within_s)
        for node in self.nodes:
            node.wait_ready(within_s)

    def wait(self, holds: Callable[[], bool], what: str, within_s: float = 120) -> None:
        """Ask ten times a second; :class:`TimeoutError` says what the members were."""
        end = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"not within {within_s} s: {what}; {self.members()}")
            time.sleep(_LOOK_S)

    def query(self, statement: str, database: str = DATABASE) -> str:
        """Run SQL as the superuser on the primary: the values, a line for each row."""
        return self.leader().query(statement, database)
