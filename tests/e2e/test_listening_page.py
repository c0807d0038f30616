"""What docs/operations.rst says of where a server listens does as it stands there."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.documents import blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: Final = "docs/operations.rst"
_PATH: Final = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def servers_and_clients() -> Iterator[tuple[str, str]]:
    """Each command that starts a server, and the block behind it."""
    shell = [block.code for block in blocks_of(DOCUMENT) if block.language == "sh"]
    for code, after in pairwise(shell):
        if code.rpartition("\n")[2].startswith("durable-streams serve"):
            yield code, after


def use(code: str, clients: str, directory: Path) -> str:
    """Start the server that the last line of a block starts, and use it; what clients printed."""
    before, _, serve = code.rpartition("\n")
    environment = os.environ | {"PATH": _PATH}
    if before:
        subprocess.run(["bash", "-euc", before], cwd=directory, env=environment, check=True)
    with subprocess.Popen(
        ["bash", "-c", f"exec {serve}"],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            assert " listening on " in server.stdout.readline()
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", clients.replace("curl", "curl --fail -sS")],
                cwd=directory,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        finally:
            server.terminate()
    assert server.returncode == 0
    return done.stdout


def test_each_server_of_the_page_is_reached_as_the_page_says(tmp_path: Path) -> None:
    found = list(servers_and_clients())
    assert found
    for number, (code, clients) in enumerate(found):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert use(code, clients, directory) == "hello", code
