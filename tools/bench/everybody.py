"""All servers that ``scripts/bench --everybody`` compares, each at every durability it has.

A write that is acknowledged is on disk, synced; or the kernel has it, so that it survives the
process but not the machine; or the process has it, and nobody else.  Who says more does more, so
each is compared with ours where the same is meant.  We have no third kind: who has is compared with
the least that we do, though it loses everything with each restart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from durable_streams.settings import Durability
from tools.bench.servers import (
    ON_UVICORN,
    OURS,
    Contender,
    node_server,
    our_server,
    our_server_on_uvicorn,
)
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ON_DISK: Final = "on disk"
WITH_THE_KERNEL: Final = "with the kernel"
IN_MEMORY: Final = "in memory"

UNSYNCED: Final = "ours, unsynced"
WORKLOADS: Final = "append-1,append-64,append-json,read-small,catchup-bytes,sse-100"
"""What they are compared with unless other workloads are named."""

RAKAIA_PYTHON: Final = ROOT / ".venv-rakaia" / "bin" / "python"
_VERSIONS: Final = """
import importlib.metadata, json
print(json.dumps([importlib.metadata.version(name) for name in ("rakaia-streams", "uvicorn")]))
"""


def contenders(python: str, rakaia_python: Path = RAKAIA_PYTHON) -> list[Contender]:
    """Those whose writes are on disk first; who is not installed is left out, and that is said."""
    none = Durability.NONE
    unsynced = our_server(python, f"--durability {none.value}", name=UNSYNCED)
    on_uvicorn = replace(our_server_on_uvicorn(python, none), name=f"{ON_UVICORN}, unsynced")
    rakaia = dict(_rakaia(rakaia_python))
    if not rakaia:
        print(f"rakaia is left out: there is no {rakaia_python}", file=sys.stderr)
    return [
        *_told(ON_DISK, OURS, our_server(python, ""), our_server_on_uvicorn(python)),
        *_told(ON_DISK, OURS, node_server(), rakaia.get("files")),
        *_told(WITH_THE_KERNEL, UNSYNCED, unsynced, on_uvicorn, rakaia.get("unsynced")),
        *_told(IN_MEMORY, UNSYNCED, node_server(in_memory=True), rakaia.get("memory")),
    ]


def _told(acknowledged: str, beside: str, *servers: Contender | None) -> Iterator[Contender]:
    for server in servers:
        if server is not None:
            yield replace(server, acknowledged=acknowledged, beside=beside)


def _rakaia(python: Path) -> Iterator[tuple[str, Contender]]:
    """Each of its stores that is of this comparison; Django's database is not."""
    if not python.exists():
        return
    asked = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True)
    rakaia, uvicorn = json.loads(asked.stdout)
    for store, name in (("files", "files"), ("unsynced", "files, unsynced"), ("memory", "memory")):
        command = (str(python), "-m", "tools.bench.on_rakaia", "{port}", store, "{data_dir}")
        version = f"rakaia-streams {rakaia}, uvicorn {uvicorn}"
        yield store, Contender(f"rakaia, {name}", command, version)
