"""Programs of other people that the tests run, which ``scripts/setup programs`` installs."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tools.postgres_cluster import installed
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TESTED_WITH: Final = {
    "rsync": "backups with it were",
    "chromium": "browsers were",
    "nginx": "browsers behind it, and it as a cache, were",
    "varnishd": "it as a cache was",
    "postgres": "the store on PostgreSQL was",
    "pgbouncer": "PostgreSQL behind it was",
    "etcd": "fail-over of PostgreSQL was",
    "caddy": "it as a proxy was",
    "haproxy": "it as a proxy was",
    "curl": "proxies, by HTTP/2, were",
    "groff": "the man page was",
    "zsh": "what completes commands in it was",
    "fish": "what completes commands in it was",
    "systemd-analyze": "units were",
    "dbus-daemon": "the service, under systemd itself, was",
}
"""What is left out without each of them."""


CLIENTS_PYTHON: Final = ROOT / ".venv-clients" / "bin" / "python"
"""What runs PyPI's ``durable-streams``; ``scripts/setup clients`` installs it."""


def find_program(name: str) -> str | None:
    """Where a program is, also one that is in nobody's ``PATH``."""
    return installed.find(name)


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_verb(*arguments: str, programs: Path | None = None) -> str:
    """Run a verb of the command line that ends by itself; what it printed, without the last end.

    ``programs``: where those of another installation are, instead of this checkout.
    """
    here = [sys.executable, "-m", "durable_streams"]
    run = subprocess.run(
        [*([str(programs / "durable-streams")] if programs else here), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.removesuffix("\n")


@contextmanager
def running_application(directory: Path, name: str) -> Iterator[str]:
    """Run a program that serves aiohttp's way at port 8080, at a free port; gives its URL."""
    port = free_port()
    program = directory / name
    program.write_text(
        program.read_text().replace("port=8080", f"port={port}, host='127.0.0.1'"),
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-W", "error", name],
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert "Running on" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()
    assert process.returncode == 0
