"""A database with fail-over and nodes of ours: each machine is a group of processes of this one.

::

    with FailoverCluster(directory=in_memory()) as cluster:
        print(cluster.url)
        cluster.leader().kill()

Each of three machines runs etcd, Patroni and the PostgreSQL that Patroni starts, at an address of
its own.  Two nodes of the server are beside them, and a balancer in front of those.  ``cluster``
puts it together; ``machine`` is one with a database, ``served_node`` one of ours; ``patroni`` has
the configuration, ``network`` the addresses, and what can be cut between them; ``balancer`` is a
program; ``programs`` says what is missing.  Linux alone, as :mod:`tools.postgres_cluster` below it.

``python -m tools.cluster`` (``scripts/cluster``) runs one by hand, until it is interrupted.
All of it blocks: calls wait for processes, up to some seconds.
"""

from __future__ import annotations

from tools.cluster.cluster import FailoverCluster
from tools.cluster.machine import Machine
from tools.cluster.network import Loopback, Namespaces, Network
from tools.cluster.programs import problem
from tools.cluster.served_node import ServedNode

__all__ = [
    "FailoverCluster",
    "Loopback",
    "Machine",
    "Namespaces",
    "Network",
    "ServedNode",
    "problem",
]
