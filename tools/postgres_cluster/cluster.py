"""A primary and standbys that it waits for, in a directory of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tools.postgres_cluster.installed import beside_postgres, give, run
from tools.postgres_cluster.node import SUPERUSER, PostgresNode
from tools.postgres_cluster.processes import kill_all, start_reaper
from tools.postgres_cluster.proxy import Proxy

if TYPE_CHECKING:
    from types import TracebackType

_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 << 30
"""For three nodes with all the WAL that they may keep, several times."""

_UNTIL_STANDBYS: Final = """
set statement_timeout = '30s';
do $$ begin
    while (select count(*) from pg_stat_replication
           where state = 'streaming' and sync_state in ('sync', 'quorum')) < {count} loop
        perform pg_sleep(0.002), pg_stat_clear_snapshot();
    end loop;
end $$
"""


def in_memory() -> Path | None:
    """Where a cluster's files are in memory, if there is room: it takes a fourth of the time.

    For what is about processes and connections, as whatever a disk may forget is kept there.
    """
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    return _MEMORY if has_room and os.access(_MEMORY, os.W_OK) else None


class PostgresCluster:
    """A primary with standbys, all of which a context starts and ends.

    Nothing is left, in whatever way this process ends: see ``processes``.  Whoever reaches the
    loopback interface may do anything in it meanwhile.
    """

    def __init__(
        self,
        standbys: int = 2,
        directory: Path | None = None,
        settings: dict[str, str] | None = None,
        wal_segment_mib: int = 1,
        has_links: bool = True,
    ) -> None:
        """Commits wait for any one of the standbys; without any, for the primary's disk alone.

        ``directory``: where to make one for it; None: where temporary files are.
        ``settings``: of all nodes, beside what they have.
        ``wal_segment_mib``: a power of two; small ones are soon made, large ones are soon written.
        ``has_links``: standbys reach the primary through what can be cut, which takes this process
        time for all that is written.
        """
        self._parent = directory
        self._standbys = standbys
        self._settings = settings or {}
        self._wal_segment_mib = wal_segment_mib
        self._has_links = has_links
        self._stack = ExitStack()
        self.nodes: list[PostgresNode] = []
        self.links: list[Proxy] = []
        """From each standby to the primary, in the order of :attr:`standbys`; if it has links."""

    @property
    def primary(self) -> PostgresNode:
        """The first node, which was the primary at the start."""
        return self.nodes[0]

    @property
    def standbys(self) -> list[PostgresNode]:
        """The other nodes."""
        return self.nodes[1:]

    @property
    def quorum(self) -> str:
        """The primary's ``synchronous_standby_names`` as they were at the start."""
        names = ", ".join(node.name for node in self.standbys)
        return f"ANY 1 ({names})" if names else ""

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

    def _start(self, stack: ExitStack) -> None:
        directory = Path(tempfile.mkdtemp(prefix="ds-pg-", dir=self._parent))
        reaper = start_reaper(directory)
        assert reaper.stdin is not None
        stack.callback(reaper.wait)
        stack.callback(reaper.stdin.close)
        stack.callback(kill_all, directory)
        give(directory)
        self.nodes = []
        for number in range(1 + self._standbys):
            node = PostgresNode(directory, f"n{number + 1}")
            stack.callback(node.end)
            self.nodes.append(node)
        self._make_data(directory)
        self.links = [Proxy(self.primary.port) for _ in self.standbys if self._has_links]
        for link in self.links:
            stack.callback(link.close)
        for node in self.nodes:
            names = self.quorum if node is self.primary else ""
            node.prepare({"synchronous_standby_names": names} | self._settings)
        ports = [link.port for link in self.links] or [self.primary.port] * self._standbys
        for node, port in zip(self.standbys, ports, strict=True):
            node.follow(port)
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()
        self.wait_for_standbys()

    def _make_data(self, directory: Path) -> None:
        """Copies of one new data directory: a standby goes on from where the primary begins."""
        primary, *others = (str(node.data) for node in self.nodes)
        command = [beside_postgres("initdb"), "--pgdata", primary, "--username", SUPERUSER]
        command += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        command += ["--wal-segsize", str(self._wal_segment_mib), "--data-checksums"]
        run(command, directory)
        for other in others:
            run(["cp", "-a", primary, other], directory)

    def wait_for_standbys(self, count: int | None = None) -> None:
        """Return when so many standbys, or all, can acknowledge commits."""
        count = self._standbys if count is None else count
        self.primary.query(_UNTIL_STANDBYS.format(count=count))

    def mend(self) -> None:
        """Undo pauses and cuts, and return when all standbys can acknowledge commits."""
        for link in self.links:
            link.release()
            link.delay(0)
            link.mend()
        for node in self.nodes:
            node.resume()
        self.wait_for_standbys()
