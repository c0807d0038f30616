"""PostgreSQL for tests and tools: a primary and its standbys, real ones, that can be harmed.

::

    with PostgresCluster(standbys=2) as cluster:
        cluster.standbys[0].pause()
        print(cluster.primary.url("postgres"))

``cluster`` puts nodes together, ``node`` is one of them, ``proxy`` a way that can be cut between
two; ``installed`` finds the programs and who runs them; ``processes`` knows what runs in a
directory, and ends it when who started it is killed.  Linux alone: it looks into ``/proc``.

``python -m tools.postgres_cluster`` runs one by hand, until it is interrupted.

All of it blocks: calls wait for processes, a few milliseconds to some seconds.
"""

from __future__ import annotations

from tools.postgres_cluster.cluster import PostgresCluster, in_memory
from tools.postgres_cluster.node import PostgresNode
from tools.postgres_cluster.proxy import Proxy, Way

__all__ = ["PostgresCluster", "PostgresNode", "Proxy", "Way", "in_memory"]
