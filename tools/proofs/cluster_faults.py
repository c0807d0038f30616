"""What can happen to a cluster: how it is struck and mended, in the order of a run."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from tools.cluster import patroni

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping
    from pathlib import Path

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


def _moved_to_another_clock(trace: Trace) -> bool:
    return MOVED(trace) and trace.has_changed("clock")


def _full(trace: Trace) -> bool:
    return trace.answers["507"] > 0


@dataclass(frozen=True, slots=True)
class Fault:
    """``strike`` returns what ``mend`` undoes; both block, and return as soon as it is done.

    ``struck``: whether there is a trace of it; without one, nothing was tried.
    ``prepare``: what has to be so before, while all is whole.
    ``needs_own_network``: networks that can be cut, or a disk of its own that can be filled.
    ``needs_clocks``: a machine whose clock differs.
    ``stops_writes``: maybe nothing can be acknowledged before it is mended.
    ``bound_s``: how long an append should wait at most, on a machine that does nothing else; with
    ``stops_writes`` that is after it was mended.
    """

    name: str
    words: str
    strike: Callable[[FailoverCluster], Callable[[], None]]
    struck: Callable[[Trace], bool]
    lasts: Lasts = Lasts.SHORT
    needs_own_network: bool = False
    needs_clocks: bool = False
    stops_writes: bool = False
    bound_s: float | None = None
    prepare: Callable[[FailoverCluster], None] = lambda _: None


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


def _fill(directory: Path) -> Path:
    """Leave no byte on a disk; which file to remove to have it back."""
    ballast = directory / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(bytes(512))
    return ballast


def _fill_disk(cluster: FailoverCluster) -> Callable[[], None]:
    leader = cluster.leader()
    ballast = _fill(leader.directory)

    def mend() -> None:
        ballast.unlink()
        leader.start()

    return mend


def _fill_wal_disk(cluster: FailoverCluster) -> Callable[[], None]:
    """As long as there are files that it can write over, it goes on: so it is told to use them.

    What makes a standby of it, ``pg_rewind``, needs room as well: it may have failed half way, so
    that the machine takes a new copy once there is room.
    """
    leader = cluster.leader()
    ballast = _fill(leader.wal_directory)
    with suppress(RuntimeError):  # it has ended
        for _ in range(_MOST_SEGMENTS):
            leader.query("select pg_switch_wal()", "postgres")

    def mend() -> None:
        ballast.unlink()
        leader.start_anew()

    return mend


def _leave_clock(cluster: FailoverCluster) -> None:
    """Have the primary where the clock is right."""
    if cluster.leader().clock.ahead_s:
        cluster.move_primary(cluster.standbys()[0])
        cluster.wait_whole()


def _change_clock(cluster: FailoverCluster) -> Callable[[], None]:
    (ahead,) = (machine for machine in cluster.machines if machine.clock.ahead_s)
    cluster.move_primary(ahead)
    return cluster.wait_whole


def _kill_all_machines(cluster: FailoverCluster) -> Callable[[], None]:
    machines: list[Machine] = list(cluster.machines)
    for machine in machines:
        machine.kill()

    def mend() -> None:
        for machine in machines:
            machine.start()

    return mend


_MOST_SEGMENTS: Final = 100
"""More than PostgreSQL keeps of its log's files, of 16 MiB each, to be written over."""

_MOVE_S: Final = 10.0
"""For a promotion, and for nodes and clients to come to who was promoted."""

_LEASE_S: Final = patroni.TIMES["ttl"] + _MOVE_S
"""The same if nobody may be promoted before the lease of the last primary is over."""

_NOTICED_S: Final = 3.0
"""For the balancer to give up a node: it asks twice a second, and waits for a second."""

_NET: Final = "the network between"

FAULTS: Final = [
    Fault("node", "kill -9 of a node of ours", _kill_node, _ended_a_node, bound_s=0.5),
    Fault("standby", "kill -9 of a standby's machine", _kill_standby, _changed("etcd"), bound_s=1),
    Fault(
        "postgres",
        "kill -9 of the primary's postgres",
        _kill_postgres,
        _changed("postgres"),
        bound_s=_MOVE_S,
    ),
    Fault(
        "clocks",
        "switch-over to a machine whose clock is a minute ahead",
        _change_clock,
        _moved_to_another_clock,
        needs_clocks=True,
        bound_s=_MOVE_S,
        prepare=_leave_clock,
    ),
    Fault(
        "etcd",
        "kill -9 of the etcd on the primary's machine",
        _kill_etcd,
        _changed("etcd"),
        bound_s=1,
    ),
    Fault("machine", "kill -9 of the primary's machine", _kill_machine, MOVED, bound_s=_LEASE_S),
    Fault(
        "patroni",
        "kill -9 of the primary's Patroni alone",
        _kill_patroni,
        _changed("patroni"),
        Lasts.PAUSE,
        bound_s=_MOVE_S,
    ),
    Fault(
        "pause",
        "SIGSTOP of the primary's machine, then SIGCONT",
        _pause_machine,
        MOVED,
        Lasts.PAUSE,
        bound_s=2 * patroni.TIMES["ttl"],
    ),
    Fault(
        "pause-node",
        "SIGSTOP of a node of ours, then SIGCONT",
        _pause_node,
        _disturbed,
        Lasts.CUT,
        bound_s=_NOTICED_S,
    ),
    Fault(
        "cut-nodes",
        f"{_NET} our nodes and the primary cut",
        _between_nodes_and_primary(there=True, back=True),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "cut-nodes-there",
        f"{_NET} our nodes and the primary cut, towards the primary",
        _between_nodes_and_primary(there=True, back=False),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "cut-nodes-back",
        f"{_NET} our nodes and the primary cut, from the primary",
        _between_nodes_and_primary(there=False, back=True),
        _silent,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "cut-one-node",
        f"{_NET} one of our nodes and all databases cut",
        _between_a_node_and_all,
        _disturbed,
        Lasts.CUT,
        needs_own_network=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "cut-primary",
        f"{_NET} the primary and the other machines cut",
        _between_primary_and_machines(there=True, back=True),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
        bound_s=_LEASE_S,
    ),
    Fault(
        "cut-primary-there",
        f"{_NET} the primary and the other machines cut, from the primary",
        _between_primary_and_machines(there=True, back=False),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
        bound_s=_LEASE_S,
    ),
    Fault(
        "cut-primary-back",
        f"{_NET} the primary and the other machines cut, towards the primary",
        _between_primary_and_machines(there=False, back=True),
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
        bound_s=_LEASE_S,
    ),
    Fault(
        "disk-full",
        "the primary's disk full, but for its write-ahead log's",
        _fill_disk,
        _full,
        Lasts.CUT,
        needs_own_network=True,
        stops_writes=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "wal-full",
        "the disk of the primary's write-ahead log full",
        _fill_wal_disk,
        MOVED,
        Lasts.CUT,
        needs_own_network=True,
        bound_s=_MOVE_S,
    ),
    Fault(
        "down",
        "kill -9 of all three machines of the database",
        _kill_all_machines,
        _silent,
        Lasts.DOWN,
        stops_writes=True,
        bound_s=_LEASE_S,
    ),
]
