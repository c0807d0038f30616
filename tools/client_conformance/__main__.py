"""Run the official conformance suite for clients with both of ours: outside CI, by hand.

``scripts/client-conformance DIRECTORY``: a clone of durable-streams/durable-streams, bare or not.
The suite is not on npm and starts the reference server itself, so it is taken out of the clone, at
its commit, into a directory of its own, with that server from npm.  Nothing of it stays.

The suite leaves two cases out for every client, as one of them (in Swift) fails there: these are
run as well.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SUITE: Final = "packages/client-conformance-tests"
_FIGURE: Final = re.compile(r"^(Total|Passed|Failed|Skipped): (\d+)", re.MULTILINE)
_NOT_PASSED: Final = re.compile(r"^  (?:- .*|○ .*)$", re.MULTILINE)
_LEFT_OUT: Final = re.compile(r"^ +skip: .*\n", re.MULTILINE)
_ADAPTER: Final = """#!/bin/sh
cd {root} && exec {python} -m tools.client_conformance.adapter {which}
"""


def main() -> int:
    """Run it; 0 if nothing fails."""
    parser = argparse.ArgumentParser(prog="scripts/client-conformance", description=__doc__)
    parser.add_argument("clone", type=Path, help="a clone of durable-streams/durable-streams")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--only", choices=["async", "sync"], help="one of both clients")
    parser.add_argument("--verbose", action="store_true", help="all that the suite prints")
    chosen = parser.parse_args()
    git = ["git", "-C", str(chosen.clone.resolve())]
    commit = _told([*git, "rev-parse", chosen.commit]).strip()
    with tempfile.TemporaryDirectory(prefix="client-conformance-") as directory:
        suite = Path(directory)
        _take_out(git, commit, suite)
        _install(git, commit, suite)
        print(f"the client conformance suite at {commit}", flush=True)
        which = [chosen.only] if chosen.only else ["async", "sync"]
        return max([_run(suite, one, verbose=chosen.verbose) for one in which])


def _told(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _take_out(git: list[str], commit: str, suite: Path) -> None:
    """The files of the suite, one by one: a clone need not have everything else."""
    listed = _told([*git, "ls-tree", "-r", "--name-only", commit, f"{_SUITE}/"])
    for name in listed.splitlines():
        path = suite / Path(name).relative_to(_SUITE)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _told([*git, "show", f"{commit}:{name}"])
        path.write_text(_LEFT_OUT.sub("", text) if path.suffix == ".yaml" else text)


def _install(git: list[str], commit: str, suite: Path) -> None:
    """What the suite needs, with the reference server in the version of that commit."""
    server = json.loads(_told([*git, "show", f"{commit}:packages/server/package.json"]))
    package = json.loads((suite / "package.json").read_text())
    needs = {
        name: version
        for name, version in package["dependencies"].items()
        if not version.startswith("workspace:")
    }
    needs["@durable-streams/server"] = server["version"]
    package = {"name": "suite", "private": True, "type": "module", "dependencies": needs}
    (suite / "package.json").write_text(json.dumps(package))
    subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=suite, check=True)


def _run(suite: Path, which: str, *, verbose: bool) -> int:
    adapter = suite / f"adapter-{which}"
    adapter.write_text(_ADAPTER.format(root=ROOT, python=sys.executable, which=which))
    adapter.chmod(0o755)
    command = ["npx", "tsx", "src/cli.ts", "--run", str(adapter)]
    environment = {**os.environ, "PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        command, cwd=suite, env=environment, capture_output=True, text=True, check=False
    )
    if verbose:
        print(ended.stdout, ended.stderr)
    figures = dict(_FIGURE.findall(ended.stdout))
    if not figures:
        print(ended.stdout, ended.stderr)
        return 2
    print(f"{which}: {figures['Passed']} of {figures['Total']} pass, ", end="")
    print(f"{figures['Failed']} fail, {figures['Skipped']} are left out", flush=True)
    for line in _NOT_PASSED.findall(ended.stdout):
        print(line)
    return int(figures["Failed"] != "0")


if __name__ == "__main__":
    sys.exit(main())
