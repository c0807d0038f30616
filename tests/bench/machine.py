"""What a run was made on and with."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.server_process import ROOT

_VERSIONS = """
import importlib.metadata, json, platform
found = {"python": platform.python_version()}
for name in ("aiohttp", "uvloop"):
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = "none"
print(json.dumps(found))
"""


def _output(*command: str) -> str:
    """What a command prints; nothing if it cannot be run."""
    if shutil.which(command[0]) is None:
        return ""
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
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


def describe(python: str, directory: Path) -> dict[str, Any]:
    """The machine, its system, and the versions of what takes part."""
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "durable_streams")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "file_system": _file_system(directory.resolve()),
        **json.loads(_output(python, "-c", _VERSIONS)),
        "node": _output("node", "--version"),
        "compiler": _output(os.environ.get("CC", "cc"), "--version").partition("\n")[0],
        "commit": _output("git", "rev-parse", "--short=12", "HEAD"),
        "commit_is_clean": not changed,
        "load_before": round(os.getloadavg()[0], 2),
    }
