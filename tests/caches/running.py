"""nginx and Varnish as an operator runs them: with the configuration of ``docs/operations.rst``.

What the documentation leaves to the operator, ports and directories, is filled in here.  Both
programs run in the foreground, on the loopback interface, with all their files in one directory.
"""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.documents import blocks_of
from tests.programs import find_program, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT: Final = "docs/operations.rst"
ORIGIN_PORT: Final = "4437"
NGINX_LISTEN: Final = "listen 80;"
NGINX_CACHE: Final = "/var/cache/nginx/streams"


def documented(language: str) -> str:
    """The one block of the document in this language."""
    (block,) = [block for block in blocks_of(DOCUMENT) if block.language == language]
    return block.code


def filled_in(configuration: str, values: dict[str, str]) -> str:
    """Replace what stands in a configuration exactly once."""
    for told, value in values.items():
        assert configuration.count(told) == 1, told
        configuration = configuration.replace(told, value)
    return configuration


def nginx_command(directory: Path, port: int, origin_port: int) -> list[str]:
    """Write nginx's configuration: the documented one."""
    streams = filled_in(
        documented("nginx"),
        {
            NGINX_LISTEN: f"listen 127.0.0.1:{port};",
            NGINX_CACHE: str(directory / "cache"),
            f":{ORIGIN_PORT};": f":{origin_port};",
        },
    )
    return in_nginx_conf(directory, f"access_log off;\n{streams}")


def in_nginx_conf(directory: Path, streams: str) -> list[str]:
    """Write what stands inside ``http`` into what Debian's nginx.conf has around it."""
    # As root its workers would become another user, who cannot enter the directory.
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    temporary = "\n".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = directory / "nginx.conf"
    configuration.write_text(
        f"{user}\ndaemon off;\npid {directory}/nginx.pid;\nerror_log stderr;\n"
        "events {}\n"
        # Tests make many requests on one connection.
        f"http {{\nkeepalive_requests 1000000;\n{temporary}\n{streams}\n}}\n"
    )
    return ["-p", str(directory), "-e", "stderr", "-c", str(configuration)]


def varnish_command(directory: Path, port: int, origin_port: int) -> list[str]:
    """Write Varnish's configuration: the documented one."""
    configuration = directory / "streams.vcl"
    told = filled_in(documented("vcl"), {f'"{ORIGIN_PORT}"': f'"{origin_port}"'})
    configuration.write_text(f"{told}\n")
    options = ["-F", "-j", "none", "-n", str(directory / "work"), "-a", f"127.0.0.1:{port}"]
    # The log in memory takes 80 MiB by default.
    return [*options, "-f", str(configuration), "-s", "malloc,256m", "-p", "vsl_space=1M"]


_COMMANDS: Final = {"nginx": nginx_command, "varnishd": varnish_command}


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when connections are taken; what ends instead has said why on its stderr."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            continue
        return
    raise AssertionError(f"{process.args!r} ended with {process.returncode}")


@contextmanager
def running(program: str, directory: Path, origin_port: int) -> Iterator[int]:
    """Run a cache in front of the server at ``origin_port``; gives the cache's port."""
    directory.mkdir()
    port = free_port()
    with listening(program, _COMMANDS[program](directory, port, origin_port), directory, port):
        yield port


@contextmanager
def listening(
    program: str, options: list[str], directory: Path, port: int, **environment: str
) -> Iterator[None]:
    """Run a program until the end; what it prints goes to the directory's ``log``."""
    executable = find_program(program)
    assert executable is not None
    log_path = directory / "log"
    with (
        log_path.open("wb") as log,
        subprocess.Popen(
            [executable, *options], stdout=log, stderr=log, env=os.environ | environment
        ) as process,
    ):
        try:
            wait_until_it_listens(process, port)
            yield
        finally:
            process.terminate()
            process.wait()
            print(log_path.read_text())  # pytest shows it beside a failure
