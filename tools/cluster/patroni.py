"""Patroni's configuration of a machine: what docs/failover.rst asks for, and places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tools.postgres_cluster.installed import beside_postgres

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CLIENT_PORT: Final = 2379
PEER_PORT: Final = 2380
REST_PORT: Final = 8008
POSTGRES_PORT: Final = 5432
SUPERUSER: Final = "postgres"
WAL: Final = "wal"
"""Where PostgreSQL's write-ahead log is, in the directory of its machine."""

REQUIRED: Final[dict[str, Any]] = {
    "synchronous_mode": "quorum",
    "synchronous_mode_strict": True,
    "synchronous_node_count": 1,
    "failsafe_mode": True,
}
"""Without these a fail-over may lose what was acknowledged, or a dead standby stop the primary."""

TIMES: Final[dict[str, Any]] = {
    "ttl": 20,
    "loop_wait": 2,
    "retry_timeout": 5,
    "primary_start_timeout": 0,
}
"""In seconds: how soon it acts.  20 is the shortest ``ttl`` that it takes."""

_PARAMETERS: Final[dict[str, Any]] = {
    "max_connections": 300,
    "wal_keep_size": "128MB",
    "max_wal_senders": 10,
    "max_replication_slots": 10,
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "wal_receiver_timeout": "5s",
    "wal_retrieve_retry_interval": "500ms",
    "wal_sender_timeout": "5s",
}


def configuration(
    name: str, address: str, directory: Path, etcd_hosts: Sequence[str]
) -> dict[str, Any]:
    """Of one machine: ``etcd_hosts`` are the addresses of all."""
    wal = {"waldir": str(directory / WAL / "pg_wal")}
    user = {"username": SUPERUSER}
    return {
        "scope": "streams",
        "name": name,
        "restapi": {
            "listen": f"{address}:{REST_PORT}",
            "connect_address": f"{address}:{REST_PORT}",
        },
        "etcd3": {"hosts": [f"{host}:{CLIENT_PORT}" for host in etcd_hosts]},
        "bootstrap": {
            "dcs": {
                **REQUIRED,
                **TIMES,
                "postgresql": {"use_pg_rewind": True, "parameters": _PARAMETERS},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, wal, "no-sync", "data-checksums"],
        },
        "postgresql": {
            "listen": f"{address}:{POSTGRES_PORT}",
            "connect_address": f"{address}:{POSTGRES_PORT}",
            "data_dir": str(directory / "data"),
            "bin_dir": beside_postgres(""),
            "basebackup": [wal],
            "pgpass": str(directory / "pgpass"),
            "authentication": {"superuser": user, "replication": user, "rewind": user},
            "pg_hba": [
                "local all all trust",
                "host all all all trust",
                "host replication all all trust",
            ],
            "parameters": {
                "unix_socket_directories": str(directory),
                "shared_buffers": "32MB",
                "max_wal_size": "256MB",
                "log_min_messages": "warning",
            },
        },
    }
