"""The clients' programs, each in a process: the server is killed and started when they say so."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp

from tools.node import COMPATIBILITY

if TYPE_CHECKING:
    from tools.server_process import ServerProcess


def lead(server: ServerProcess, *command: str) -> Any:
    """Run a program to its end, and return what it said last.

    Before that a line that it writes is ``kill`` or ``start``: that is done to the server, and then
    the program is told, by a line.
    """
    said = None
    with subprocess.Popen(
        command, cwd=COMPATIBILITY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        try:
            for line in program.stdout:
                match line.strip():
                    case "kill":
                        server.kill()
                    case "start":
                        server.start()
                    case outcome:
                        said = json.loads(outcome)
                        continue
                program.stdin.write("done\n")
                program.stdin.flush()
        except BaseException:
            program.kill()
            raise
    assert program.returncode == 0
    return said


async def stored(server: ServerProcess, path: str) -> tuple[list[Any], bool]:
    """The messages of a stream, and whether it is closed, as our server tells anybody."""
    async with aiohttp.ClientSession() as session, session.get(server.url(path)) as response:
        return await response.json(), response.headers.get("Stream-Closed") == "true"
