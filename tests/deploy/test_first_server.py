"""``docs/first-server.rst``, from its first line to its last, with the wheel."""

from __future__ import annotations

import os
import shlex
import ssl
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.documents import blocks_of
from tests.programs import run_verb
from tests.test_documents import run_shell
from tools.proofs.kills import Run
from tools.proofs.load import Plan
from tools.server_process import ServerProcess

PLAN: Final = Plan(lasting=4, changing=4, pause_s=0.01, appends=(3, 30), seed=1)
SERVE: Final = "durable-streams serve "
CLONE: Final = "'.[speed]'"
ALL: Final = ("--scope", "read,append,create,delete,fork", "--prefix", "")


async def killed_under_load(server: ServerProcess, directory: Path, token: str) -> None:
    """Over TLS, with a token that may do what the load does."""
    trusting = ssl.create_default_context(cafile=str(directory / "server.pem"))
    report = await Run(server, PLAN).run(
        iter([0.3, 0.5]),
        javascript=0,
        connector=aiohttp.TCPConnector(limit=0, ssl=trusting),
        headers={"Authorization": f"Bearer {token}"},
    )
    assert report.faults == []
    assert report.counters.acknowledged > 0


@pytest.mark.needs("curl")
async def test_the_page_leads_to_a_server_with_tls_and_tokens_that_loses_nothing_when_it_is_killed(
    wheel: Path, tmp_path: Path
) -> None:
    programs = tmp_path / "streams-server" / "bin"
    places = [str(programs), f"{sys.base_prefix}/bin", os.environ["PATH"]]
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # what pip has already
    own = {"HOME": str(tmp_path), "XDG_CACHE_HOME": cache, "PATH": os.pathsep.join(places)}
    install, *blocks = [block for block in blocks_of("docs/first-server.rst") if block.code]
    server = ServerProcess(tmp_path / "data", programs=programs)
    assert install.code.count(CLONE) == 1
    code = install.code.replace(CLONE, f"'{wheel}[speed]'")
    run_shell(replace(install, code=code), server, tmp_path, own)
    try:
        for block in blocks:
            if block.code.startswith(SERVE):
                server.options = tuple(
                    str(tmp_path / option) if (tmp_path / option).is_file() else option
                    for option in shlex.split(block.code.removeprefix(SERVE))
                )
                tokens = str(tmp_path / "tokens.toml")
                loads = run_verb("token", "new", "--tokens", tokens, *ALL, programs=programs)
                server.start()
                await killed_under_load(server, tmp_path, loads)
            elif block.language == "sh":
                run_shell(block, server, tmp_path, own)
    except BaseException:
        if server.running:
            server.kill()
        raise
    server.finish()
