"""One PostgreSQL server: a primary or a standby, and all that can happen to it."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from tools.postgres_cluster.installed import as_user, beside_postgres, environment, run
from tools.postgres_cluster.ports import ReservedPort
from tools.postgres_cluster.processes import (
    continue_all,
    kill_all,
    stop_all,
    wait_until,
    working_in,
)

if TYPE_CHECKING:
    from pathlib import Path

SUPERUSER: Final = "postgres"

_READY: Final = "ready"
"""What a server writes into ``postmaster.pid`` once it takes sessions, a standby as well."""

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
cluster_name = '{name}'
max_connections = 300
shared_buffers = '32MB'
max_wal_size = '256MB'
wal_keep_size = '128MB'
wal_receiver_status_interval = '1s'
wal_retrieve_retry_interval = '100ms'
log_min_messages = 'warning'
"""
"""What is not as it comes: places, and less waiting.  A standby is called by its cluster's name."""

_GUARDED: Final = """
local all all trust
host all +guarded 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""
"""Who may come in: everybody of this machine, and members of the role ``guarded`` by password."""


_UNTIL: Final = """
set statement_timeout = '{within_s}s';
do $until$ begin
    while ({question})::text is distinct from '{answer}' loop
        perform pg_sleep(0.002), pg_stat_clear_snapshot();
    end loop;
end $until$
"""


class PostgresNode:
    """A server in a data directory of its own, on a port that stays the same."""

    def __init__(self, directory: Path, name: str) -> None:
        """``directory``: where the data directory, the log and the unix socket are."""
        self.name = name
        self.data = directory / name
        self.sockets = directory
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._reserved = ReservedPort()
        self.port = self._reserved.number

    def url(self, database: str = SUPERUSER, user: str = SUPERUSER, **parameters: str) -> str:
        """Where clients find a database of it, without a password."""
        more = f"?{urlencode(parameters)}" if parameters else ""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{more}"

    @property
    def log(self) -> str:
        """What it wrote in all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    @property
    def running(self) -> bool:
        """Whether there is a process, standing still or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process that starts all others of it."""
        assert self._process is not None
        return self._process.pid

    # -- from start to stop --------------------------------------------------------------------

    def prepare(self, settings: dict[str, str]) -> None:
        """Write its configuration into a new data directory."""
        own = _SETTINGS.format(port=self.port, sockets=self.sockets, name=self.name)
        lines = [f"{name} = '{value}'" for name, value in settings.items()]
        configuration = self.data / "postgresql.conf"
        configuration.write_text("\n".join([configuration.read_text(), own, *lines, ""]))
        (self.data / "pg_hba.conf").write_text(_GUARDED)

    def launch(self) -> None:
        """Start it, and return before it is ready."""
        assert not self.running
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [beside_postgres("postgres"), "-D", str(self.data)],
                cwd=self.data,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is not meant for it
                **as_user(),
            )

    def wait_ready(self) -> None:
        """Return when it takes sessions.

        :raises RuntimeError: it has ended instead; with what it wrote.
        """
        wait_until(lambda: self._is_ready() or not self.running, f"{self.name} takes sessions")
        if not self.running:
            raise RuntimeError(f"{self.name} has ended:\n{self.log[-2000:]}")

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == _READY

    def start(self) -> None:
        """Start it, and return when it takes sessions."""
        self.launch()
        self.wait_ready()

    def stop(self, mode: signal.Signals = signal.SIGINT) -> None:
        """End it as an operator does: SIGINT is *fast*, SIGQUIT *immediate*, SIGTERM *smart*."""
        assert self._process is not None
        self._process.send_signal(mode)
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL all of it at once, as when its machine dies; also while it stands still."""
        kill_all(self.data)
        if self._process is not None:
            self._process.wait()

    def restart(self, mode: signal.Signals = signal.SIGINT) -> None:
        """Stop it and start it again; SIGKILL is no mode of the server's, and works as well."""
        if mode is signal.SIGKILL:
            self.kill()
        else:
            self.stop(mode)
        self.start()

    def end(self) -> None:
        """End it in whatever state it is, in a moment; its port is given away.

        A server that may ends its own processes, which nobody else would collect.
        """
        if self.running:
            self.resume()
            self.stop(signal.SIGQUIT)
        self.kill()
        self._reserved.release()

    # -- standing still ------------------------------------------------------------------------

    def pause(self) -> None:
        """SIGSTOP all of it; returns when everything stands still."""
        stop_all(self.data, self.pid)

    def resume(self) -> None:
        """SIGCONT all of it."""
        continue_all(self.data)

    def processes(self) -> list[int]:
        """All of it, by process id."""
        return list(working_in(self.data))

    # -- administration ------------------------------------------------------------------------

    def query(self, statement: str, database: str = SUPERUSER) -> str:
        """Run SQL as the superuser: the values, a line for each row."""
        return run(
            [
                *(beside_postgres("psql"), "--no-psqlrc", "--quiet", "--tuples-only"),
                *("--no-align", "--set", "ON_ERROR_STOP=1"),
                *("--host", str(self.sockets), "--port", str(self.port), "--user", SUPERUSER),
                *("--dbname", database, "--command", statement),
            ],
            self.sockets,
        ).removesuffix("\n")

    def wait_until(
        self, question: str, answer: str, what: str, database: str = SUPERUSER, within_s: int = 30
    ) -> None:
        """Return as soon as SQL gives this one value; the server looks again and again by itself.

        :raises TimeoutError: it did not in time; names ``what``.
        """
        wanted = {"t": "true", "f": "false"}.get(answer, answer)
        script = _UNTIL.format(question=question, answer=wanted, within_s=within_s)
        try:
            self.query(script, database)
        except RuntimeError as error:
            if "statement timeout" not in str(error):
                raise
            raise TimeoutError(f"not within {within_s} s: {what}") from None

    def configure(self, **settings: str) -> None:
        """Change settings that need no restart; returns when new sessions have them."""
        for name, value in settings.items():
            self.query(f"alter system set {name} = '{value}'")
        before = self.query("select pg_conf_load_time()")
        self.query("select pg_reload_conf()")
        wait_until(
            lambda: self.query("select pg_conf_load_time()") != before, "settings read again"
        )

    def follow(self, port: int) -> None:
        """As a standby: replicate from the primary at this port of the loopback interface."""
        source = f"host=127.0.0.1 port={port} user={SUPERUSER}"
        if self.running:
            self.configure(primary_conninfo=source)
            return
        (self.data / "standby.signal").touch()
        with (self.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{source}'\n")

    def promote(self) -> None:
        """Make a standby a primary; returns when it takes writes."""
        self.query("select pg_promote()")

    @property
    def is_standby(self) -> bool:
        """Whether it takes no writes, as a server in recovery."""
        return self.query("select pg_is_in_recovery()") == "t"
