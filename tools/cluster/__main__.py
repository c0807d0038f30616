"""``python -m tools.cluster [PORT]``: all of it, to try and to kill, until Ctrl-C; 4437 by default.

Says what to kill, and then what becomes of it.  What was killed is started again after a while, as
a machine that has power again, and as systemd starts a node.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from tools.cluster import FailoverCluster, problem
from tools.postgres_cluster import in_memory

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOK_S: Final = 0.25

_TOLD: Final = """\
up in {started_in_s:.1f} s

console    {url}/
streams    {url}/v1/stream/…
database   {store}
files      {directory}

What to kill, from another terminal; it is started again after {dead_s:.0f} s:

  kill -9 {node}{pad}                   # node1, one of ours
  pkill -9 -f {directory}/db1/data      # the postgres of db1
  pkill -9 -f {directory}/db1/          # the machine db1: etcd, Patroni, postgres
  pkill -STOP -f {directory}/db1/       # the same stands still; -CONT: it goes on
"""


class Watch:
    """Prints what has changed, and starts again what was killed."""

    def __init__(self, cluster: FailoverCluster, dead_s: float) -> None:
        self._cluster = cluster
        self._dead_s = dead_s
        self._said: dict[str, str] = {}
        self._missed: dict[str, float] = {}

    def look(self) -> None:
        cluster = self._cluster
        members = {member["name"]: member for member in cluster.members()}
        for machine in cluster.machines:
            member = members.get(machine.name)
            words = f"{member['role']}, {member['state']}" if member else "not known to the others"
            self._say(machine.name, words)
            self._again(machine.name, machine.start, is_down=not machine.is_running)
        for node in cluster.nodes:
            status, text = node.readiness()
            self._say(node.name, "ready" if status == 200 else text.strip() or "no answer")
            self._again(node.name, node.start_again, is_down=not node.is_running)

    def _say(self, name: str, words: str) -> None:
        if self._said.get(name) != words:
            self._said[name] = words
            print(f"{time.strftime('%H:%M:%S')}  {name}: {words}", flush=True)

    def _again(self, name: str, start: Callable[[], None], *, is_down: bool) -> None:
        if not is_down:
            self._missed.pop(name, None)
        elif time.monotonic() - self._missed.setdefault(name, time.monotonic()) > self._dead_s:
            del self._missed[name]
            self._say(name, "is started again")
            start()


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    parser.add_argument("port", type=int, nargs="?", default=4437, help="of the balancer")
    parser.add_argument(
        "--dead-s", type=float, default=30.0, help="what is killed stays so long so"
    )
    options = parser.parse_args()
    missing = problem()
    if missing is not None:
        print(missing, file=sys.stderr)
        return 2
    with (
        suppress(KeyboardInterrupt),
        FailoverCluster(directory=in_memory(), port=options.port) as cluster,
    ):
        told = _TOLD.format(
            **{
                name: getattr(cluster, name)
                for name in ("started_in_s", "url", "store", "directory")
            },
            node=cluster.nodes[0].pid,
            pad=" " * (len(str(cluster.directory)) - len(str(cluster.nodes[0].pid))),
            dead_s=options.dead_s,
        )
        print(told, flush=True)
        watch = Watch(cluster, options.dead_s)
        while True:
            watch.look()
            time.sleep(_LOOK_S)
    return 0


if __name__ == "__main__":
    sys.exit(main())
