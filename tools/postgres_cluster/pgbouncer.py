"""PgBouncer in front of a node, from Debian's package, as an operator runs it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final, Self

from tools.postgres_cluster.installed import as_user, environment, give, program
from tools.postgres_cluster.node import SUPERUSER, PostgresNode
from tools.postgres_cluster.ports import ReservedPort
from tools.postgres_cluster.processes import wait_until

if TYPE_CHECKING:
    from types import TracebackType

NAME: Final = "pgbouncer"

_CONFIGURATION: Final = """
[databases]
* = host=127.0.0.1 port={node_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = {pool_size}
"""


class PgBouncer:
    """A pooler for all databases of a node, which a context starts and ends.

    ``mode``: ``session``, ``transaction`` or ``statement``, as its ``pool_mode``.
    """

    def __init__(self, node: PostgresNode, mode: str, pool_size: int = 20) -> None:
        self._node = node
        self._mode = mode
        self._pool_size = pool_size
        self._reserved = ReservedPort()
        self.port = self._reserved.number

    def url(self, database: str) -> str:
        """Where clients find a database through it."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        directory = self._node.sockets / f"{NAME}-{self.port}"
        directory.mkdir()
        users = directory / "users"
        users.write_text(f'"{SUPERUSER}" ""\n')
        configuration = directory / "configuration"
        configuration.write_text(
            _CONFIGURATION.format(
                node_port=self._node.port,
                port=self.port,
                users=users,
                mode=self._mode,
                pool_size=self._pool_size,
            )
        )
        give(directory)
        log_path = directory / "log"
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [program(NAME), str(configuration)],
                cwd=directory,  # so that it ends with the cluster, at the latest
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_user(),
            )
        wait_until(
            lambda: "process up" in log_path.read_text() or self._process.poll() is not None, NAME
        )
        if self._process.poll() is not None:
            raise RuntimeError(f"{NAME} has ended:\n{log_path.read_text()}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reserved.release()
