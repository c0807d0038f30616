"""Our client and PyPI's ``durable-streams`` beside the same server: ``scripts/bench-clients``.

The server has a core, and the program another one, where there are two.  Each figure is the median
of several runs, of each with a server of its own, in turns; all that was appended is read back.
Prints a table for docs/client.rst.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import durable_streams
from tools.bench.client import pinned
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROGRAMS: Final = Path(__file__).resolve().parent / "client_programs"
CLIENTS_PYTHON: Final = ROOT / ".venv-clients" / "bin" / "python"
SIDES: Final = {
    "ours": (sys.executable, "ours.py"),
    "PyPI": (str(CLIENTS_PYTHON), "others.py"),
}
WORKLOADS: Final = {
    "one_by_one": "appends, each awaited",
    "many": "appends in the background, each stored once at ours",
    "read": "messages read from the beginning, in pieces",
}
CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
_FEWER: Final = 200
"""Appends that are awaited are slower by so much: there are fewer of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="scripts/bench-clients", description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    chosen = parser.parse_args(arguments)
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(chosen.runs):
        for side in SIDES:
            for workload, rate in _measured(side, chosen.messages).items():
                rates.setdefault((side, workload), []).append(rate)
    print(_table({key: statistics.median(found) for key, found in rates.items()}))
    return 0


def _measured(side: str, messages: int) -> dict[str, float]:
    """Messages a second, of each workload, by a program that has a new server to itself."""
    python, program = SIDES[side]
    with tempfile.TemporaryDirectory(prefix="bench-clients-") as directory:
        server = ServerProcess(Path(directory) / "data")
        with pinned(CORES[0]):
            server.start()
        url = f"{server.base_url}{server.prefix}"
        with pinned(CORES[-1]):
            ran = subprocess.run(
                [python, program, url, str(messages), str(max(1, messages // _FEWER))],
                cwd=PROGRAMS,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        with durable_streams.connect_sync(url) as streams:
            assert _stored(streams, "many") == list(range(messages))
        server.finish()
    return {workload: json.loads(ran.stdout)[workload] for workload in WORKLOADS}


def _stored(streams: durable_streams.SyncRemoteStreams, path: str) -> list[int]:
    """The numbers that a program appended; several at once may come in any order."""
    return sorted(message.json()["number"] for message in streams.tail(path, live=False))


def _table(rates: dict[tuple[str, str], float]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 50 25 25", ""]
    lines += ["   * - Messages of 35 bytes a second, by a program on one core", *_cells(SIDES)]
    for workload, text in WORKLOADS.items():
        lines += [f"   * - {text}", *_cells(f"{rates[side, workload]:,.0f}" for side in SIDES)]
    return "\n".join(lines)


def _cells(texts: Iterable[str]) -> list[str]:
    return [f"     - {text}" for text in texts]


if __name__ == "__main__":
    sys.exit(main())
