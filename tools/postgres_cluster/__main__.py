"""``python -m tools.postgres_cluster [STANDBYS]``: one to play with, until Ctrl-C; 2 by default."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from tools.postgres_cluster.cluster import PostgresCluster


def main() -> None:
    standbys = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    with PostgresCluster(standbys) as cluster:
        print("primary ", cluster.primary.url())
        for node in cluster.standbys:
            print("standby ", node.url())
        print("files   ", cluster.primary.data.parent, flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
