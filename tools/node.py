"""Node and the packages of npm that tests use: where, and there or not."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from typing import Final

from tools.server_process import ROOT

CONFORMANCE: Final = ROOT / "tests" / "conformance"
YJS: Final = ROOT / "tests" / "yjs"
COMPATIBILITY: Final = ROOT / "tests" / "compatibility"
OLDEST_NODE: Final = 20


def running_in_ci() -> bool:
    """Whether leaving something out is a failure."""
    return os.environ.get("CI") == "true"


@functools.cache
def node_problem() -> str | None:
    """Tell why the tests that need Node cannot run; None if they can."""
    node = shutil.which("node")
    if node is None:
        return f"Node {OLDEST_NODE} or newer is missing."
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        return f"Node {version.strip()} is too old; {OLDEST_NODE} or newer is needed."
    for packages in (CONFORMANCE, YJS, COMPATIBILITY):
        if not (packages / "node_modules" / ".package-lock.json").exists():
            return f"The packages of tests/{packages.name} are missing: run scripts/setup node."
    return None
