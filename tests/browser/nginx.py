"""nginx between the browser and the server: a real proxy that notes every request it answered.

It takes over sockets that listen already, so its ports are known before it starts and no
connection is refused.  It serves an empty page of the streams' own origin, and another that is of
another origin.  What it logs comes through a pipe, one line for each request that is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.programs import find_program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

_CONFIG: Final = """
daemon off;
{user}
pid nginx.pid;
error_log nginx.log;
events {{ }}
http {{
    log_format seen escape=json '{{"method":"$request_method","uri":"$request_uri",'
        '"status":$status,"last_event_id":"$http_last_event_id","origin":"$http_origin"}}';
    access_log /dev/stdout seen;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type text/html;
    server {{
        listen 127.0.0.1:{port};
        location = /page {{ return 200 '<!doctype html><title>same origin</title>'; }}
        location / {{ proxy_pass http://127.0.0.1:{server_port}; proxy_http_version 1.1; }}
    }}
    server {{
        listen 127.0.0.1:{other_port};
        location = /page {{ return 200 '<!doctype html><title>other origin</title>'; }}
    }}
}}
"""

_HANGS_S: Final = 60
"""Not a judgement on speed: a proxy that nobody asks any more fails the test."""


class Request(NamedTuple):
    """A request that is over, with two of its headers, empty if they were not there."""

    method: str
    uri: str
    status: int
    last_event_id: str
    origin: str


class Proxy:
    """The running proxy, and what it has answered so far."""

    def __init__(self, port: int, other_port: int) -> None:
        self.authority = f"127.0.0.1:{port}"
        self.page_url = f"http://{self.authority}/page"
        self.other_origin = f"http://127.0.0.1:{other_port}"
        self.other_page_url = f"{self.other_origin}/page"
        self._requests: list[Request] = []
        self._more = asyncio.Condition()

    def requests_for(self, path: str) -> list[Request]:
        """All requests for a path that are over, in the order in which they ended."""
        return [seen for seen in self._requests if seen.uri.partition("?")[0] == path]

    async def wait_for(self, path: str, enough: Callable[[list[int]], bool]) -> None:
        """Wait until the statuses of the requests for a path that are over are enough."""
        async with asyncio.timeout(_HANGS_S), self._more:
            await self._more.wait_for(
                lambda: enough([seen.status for seen in self.requests_for(path)])
            )

    async def read(self, log: asyncio.StreamReader) -> None:
        """Take in the log, to its end."""
        async for line in log:
            async with self._more:
                self._requests.append(Request(**json.loads(line)))
                self._more.notify_all()


@asynccontextmanager
async def running(server_port: int, directory: Path) -> AsyncIterator[Proxy]:
    """Run nginx in front of the server at ``server_port``."""
    program = find_program("nginx")
    assert program is not None
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    port, other_port = (each.getsockname()[1] for each in listening)
    numbers = [each.fileno() for each in listening]
    config = directory / "nginx.conf"
    config.write_text(
        _CONFIG.format(
            port=port,
            other_port=other_port,
            server_port=server_port,
            user="user root;" if os.geteuid() == 0 else "",  # others cannot reach the directory
        )
    )
    command = [program, "-p", f"{directory}/", "-c", str(config), "-e", "nginx.log"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE,
        pass_fds=numbers,
        env=os.environ | {"NGINX": "".join(f"{number};" for number in numbers)},
    )
    for each in listening:
        each.close()
    assert process.stdout is not None
    proxy = Proxy(port, other_port)
    reading = asyncio.create_task(proxy.read(process.stdout))
    try:
        yield proxy
    finally:
        if process.returncode is None:
            process.terminate()
        await reading
        code = await process.wait()
    assert code == 0, (directory / "nginx.log").read_text()
