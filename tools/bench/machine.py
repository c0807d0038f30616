"""What a run was made on and with."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK: Final = bytes(4096)
_BLOCKS: Final = 256
_DIRECTORIES: Final = 256
_SUMS: Final = 5

_VERSIONS = """
import importlib.metadata, json, platform
found = {"python": platform.python_version()}
for name in ("aiohttp", "uvloop", "isal"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = "none"
print(json.dumps(found))
"""


def _output(*command: str, directory: Path = ROOT) -> str:
    """What a command prints; nothing if it cannot be run."""
    if shutil.which(command[0]) is None:
        return ""
    run = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    return run.stdout.strip()


def _processor() -> str:
    try:
        information = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    match = re.search(r"^model name\s*: (.*)$", information, re.MULTILINE)
    return match[1] if match else platform.processor()


def _file_system(path: Path) -> str:
    """The type of the file system that the path is on."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    except OSError:
        return ""
    around = [(len(at), kind) for at, kind in mounts if path.is_relative_to(at)]
    return max(around, default=(0, ""))[1]


def versions(python: str) -> dict[str, str]:
    """Of an interpreter, and of the packages in its environment that matter for speed."""
    found: dict[str, str] = json.loads(_output(python, "-c", _VERSIONS))
    return found


def commit_of(checkout: Path) -> tuple[str, bool]:
    """What is checked out, and whether the package is as it was committed."""
    commit = _output("git", "rev-parse", "--short=12", "HEAD", directory=checkout)
    status = ("git", "status", "--porcelain", "--untracked-files=no", "durable_streams")
    return commit, not _output(*status, directory=checkout)


def describe(python: str, directory: Path) -> dict[str, Any]:
    """The machine, its system, and the versions of what takes part."""
    commit, is_clean = commit_of(ROOT)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "file_system": _file_system(directory.resolve()),
        **versions(python),
        "node": _output("node", "--version"),
        "compiler": _output(os.environ.get("CC", "cc"), "--version").partition("\n")[0],
        "commit": commit,
        "commit_is_clean": is_clean,
        "load_before": round(os.getloadavg()[0], 2),
    }


def speeds(directory: Path) -> dict[str, float]:
    """How fast the machine is just now, without any server; medians.

    Microseconds for a write of 4 KiB to a file that is there and its ``fdatasync``, and for a
    directory with a file in it; milliseconds for a million additions in this Python.  What is made
    in ``directory`` is the caller's to remove.
    """
    fd = os.open(directory / "speed", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, _BLOCK * _BLOCKS, 0)
        os.fsync(fd)
        synced_s = _median_s(lambda turn: _write_synced(fd, turn), _BLOCKS)
    finally:
        os.close(fd)
    made_s = _median_s(lambda turn: _make(directory / f"speed-{turn}"), _DIRECTORIES)
    sum_s = _median_s(lambda _: sum(range(1_000_000)), _SUMS)
    return {
        "synced_write_us": round(synced_s * 1e6),
        "directory_us": round(made_s * 1e6),
        "additions_ms": round(sum_s * 1e3, 1),
    }


def _median_s(work: Callable[[int], object], times: int) -> float:
    took: list[float] = []
    for turn in range(times):
        begin = time.perf_counter()
        work(turn)
        took.append(time.perf_counter() - begin)
    return statistics.median(took)


def _write_synced(fd: int, turn: int) -> None:
    os.pwrite(fd, _BLOCK, turn * len(_BLOCK))
    os.fdatasync(fd)


def _make(directory: Path) -> None:
    directory.mkdir()
    (directory / "file").write_bytes(_BLOCK)
