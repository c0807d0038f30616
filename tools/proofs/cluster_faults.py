"""What can happen to a cluster: how it is struck and mended, in the order of a run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from tools.cluster import FailoverCluster, Machine


class Lasts(Enum):
    """How long what was done stays so at least; also until writes go on, if they can."""

    SHORT = "some seconds"
    CUT = "as long as networks stay cut"
    PAUSE = "as long as machines stand still"
    DOWN = "as long as the database is down"


@dataclass(frozen=True, slots=True)
class Trace:
    """What a fault has left: marks of the cluster ``before`` and ``after``, and what clients saw.

    ``answers``: what producers and readers were told, or how they were not; times in seconds.
    """

    before: Mapping[str, str]
    after: Mapping[str, str]
    answers: Counter[str]
    silence_s: float
    broken_s: float

    def has_changed(self, what: str) -> bool:
        """Whether anything of that kind is another one now."""
        return any(
            self.after.get(name) != self.before[name] for name in self.before if what in name
        )

    @property
    def is_disturbed(self) -> bool:
        """Whether anybody was refused, or cut off."""
        return any(answer not in {"200", "204"} for answer in self.answers)


def _changed(what: str) -> Callable[[Trace], bool]:
    return lambda trace: trace.has_changed(what)


MOVED: Final = _changed("leader")
"""The primary is another one than before."""


def _ended_a_node(trace: Trace) -> bool:
    return trace.has_changed("node") and trace.is_disturbed


def _disturbed(trace: Trace) -> bool:
    return trace.is_disturbed


def _silent(trace: Trace) -> bool:
    return trace.silence_s > trace.broken_s / 2


def _full(trace: Trace) -> bool:
    return trace.answers["507"] > 0


@dataclass(frozen=True, slots=True)
class Fault:
    """``strike`` returns what ``mend`` undoes; both block, and return as soon as it is done.

    ``struck``: whether there is a trace of it; without one, nothing was tried.
    ``needs_own_network``: networks that can be cut, or a disk of its own that can be filled.
    ``stops_writes``: maybe nothing can be acknowledged before it is mended.
    ``bound_s``: how long an append should wait at most, on a machine that does nothing else.
    """

    name: str
    words: str
    strike: Callable[[FailoverCluster], Callable[[], None]]
    struck: Callable[[Trace], bool]
    lasts: Lasts = Lasts.SHORT
    needs_own_network: bool = False
    stops_writes: bool = False
    bound_s: float | None = None


def _kill_node(cluster: FailoverCluster) -> Callable[[], None]:
    node = cluster.busiest()
    node.kill()
    return node.start_again


def _kill_standby(cluster: FailoverCluster) -> Callable[[], None]:
    standby = cluster.standbys()[0]
    standby.kill()
    return standby.start


def _kill_postgres(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    leader.kill_postgres()
    return leader.start


def _kill_machine(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    leader.kill()
    return leader.start


def _kill_etcd(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    leader.kill_one("etcd")
    return leader.start


def _kill_patroni(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    leader.kill_one("patroni")
    return leader.start


def _pause_machine(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    leader.pause()
    return leader.resume


def _pause_node(cluster: FailoverCluster) -> Callable[[], None]:
    node = cluster.busiest()
    node.pause()
    return node.resume


def _between_nodes_and_primary(*, there: bool, back: bool) -> Callable[..., Callable[[], None]]:
    def strike(cluster: FailoverCluster) -> Callable[[], None]:
        leader = cluster.leader()
        for node in cluster.nodes:
            if there:
                cluster.network.cut(node.number, leader.number)
            if back:
                cluster.network.cut(leader.number, node.number)
        return cluster.network.mend

    return strike


def _between_a_node_and_all(cluster: FailoverCluster) -> Callable[[], None]:
    node = cluster.busiest()
    for machine in cluster.machines:
        cluster.network.cut(node.number, machine.number)
        cluster.network.cut(machine.number, node.number)
    return cluster.network.mend


def _between_primary_and_machines(*, there: bool, back: bool) -> Callable[..., Callable[[], None]]:
    def strike(cluster: FailoverCluster) -> Callable[[], None]:
        leader, *others = [cluster.leader(), *cluster.standbys()]
        for other in others:
            if there:
                cluster.network.cut(leader.number, other.number)
            if back:
                cluster.network.cut(other.number, leader.number)
        return cluster.network.mend

    return strike


def _fill_disk(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    ballast = leader.directory / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))

    def mend() -> None:
        ballast.unlink()
        leader.start()

    return mend


def _kill_all_machines(cluster: FailoverCluster) -> Callable[[], None]:
    machines: list[Machine] = list(cluster.machines)
    for machine in machines:
        machine.kill()

    def mend() -> None:
        for machine in machines:
            machine.start()

    return mend


_NET: Final = "the network between"

FAULTS: Final = [
    Fault("node", "kill -9 of a node of ours", _kill_node, _ended_a_node, bound_s=0.5),
    Fault("standby", "kill -9 of a standby's machine", _kill_standby, _changed("etcd"), bound_s=1),
    Fault(
        "postgres",
        "kill -9 of the primary's postgres",
        _kill_postgres,
        _changed("postgres"),
        bound_s=10,
    ),
    Fault("etcd", "kill -9 of the etcd on the primary's machine", _kill_etcd, _changed("etcd")),
    Fault("machine", "kill -9 of the primary's machine", _kill_machine, MOVED, bound_s=30),
    Fault(
        "patroni",
        "kill -9 of the primary's Patroni alone",
        _kill_patroni,
        _changed("patroni"),
        Lasts.PAUSE,
    ),
    Fault(
        "pause",
        "SIGSTOP of the primary's machine, then SIGCONT",
        _pause_machine,
        MOVED,
        Lasts.PAUSE,
    ),
    Fault(
        "pause-node", "SIGSTOP of a node of ours, then SIGCONT", _pause_node, _disturbed, Lasts.CUT
    ),
    Fault(
        "cut-nodes",
        f"{_NET} our nodes and the primary cut",
        _between_nodes_and_primary(there=True, back=True),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
    ),
    Fault(
        "cut-nodes-there",
        f"{_NET} our nodes and the primary cut, towards the primary",
        _between_nodes_and_primary(there=True, back=False),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
    ),
    Fault(
        "cut-nodes-back",
        f"{_NET} our nodes and the primary cut, from the primary",
        _between_nodes_and_primary(there=False, back=True),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
    ),
    Fault(
        "cut-one-node",
        f"{_NET} one of our nodes and all databases cut",
        _between_a_node_and_all,
        _disturbed,
        Lasts.CUT,
        needs_own_network=True,
    ),
    Fault(
        "cut-primary",
        f"{_NET} the primary and the other machines cut",
        _between_primary_and_machines(there=True, back=True),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
    ),
    Fault(
        "cut-primary-there",
        f"{_NET} the primary and the other machines cut, from the primary",
        _between_primary_and_machines(there=True, back=False),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
    ),
    Fault(
        "cut-primary-back",
        f"{_NET} the primary and the other machines cut, towards the primary",
        _between_primary_and_machines(there=False, back=True),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
    ),
    Fault(
        "disk-full",
        "the primary's disk full",
        _fill_disk,
        _full,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
    ),
    Fault(
        "down",
        "kill -9 of all three machines of the database",
        _kill_all_machines,
        _silent,
        Lasts.DOWN,
        stops_writes=True,
    ),
]
