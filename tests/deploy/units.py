"""Units of systemd, read as it reads them, and a service of one of them, played without it."""

from __future__ import annotations

import resource
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.server_process import ROOT, ServerProcess

UNITS: Final = ROOT / "deploy" / "systemd"
SERVICE: Final = UNITS / "durable-streams.service"
SOCKET: Final = UNITS / "durable-streams.socket"
PROGRAMS: Final = "/opt/durable-streams/bin"
"""Where the unit takes the programs to be."""


def values_of(unit: Path, key: str) -> list[str]:
    """All values of a key, in order; an empty one begins anew."""
    found: list[str] = []
    for line in unit.read_text().splitlines():
        name, mark, value = line.partition("=")
        if mark and name == key:
            found = [*found, value] if value else []
    return found


def value_of(unit: Path, key: str) -> str:
    (value,) = values_of(unit, key)
    return value


def calls_of(group: str) -> set[str]:
    """The system calls of one of systemd's groups, those of groups within it too."""
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    calls: set[str] = set()
    for line in listed.stdout.splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            calls |= calls_of(word)
        elif word and not word.startswith("#"):
            calls.add(word)
    return calls


def allowed_calls() -> set[str]:
    """What the filter of the unit leaves."""
    calls = calls_of("@default")
    for value in values_of(SERVICE, "SystemCallFilter"):
        for group in value.removeprefix("~").split():
            calls = calls - calls_of(group) if value.startswith("~") else calls | calls_of(group)
    return calls


class PlayedService(ServerProcess):
    """The service of the unit, with its environment, its limits and what it forbids.

    ``programs``: where the wheel was installed.  ``state``, ``configuration``: what is below
    ``/var/lib`` and ``/etc`` there.
    """

    def __init__(self, programs: Path, state: Path, configuration: Path) -> None:
        super().__init__(state / "durable-streams" / "data", programs=programs)
        self._places = {"%S": str(state), "%E": str(configuration)}
        self._log_path = state / "stderr"
        self.data_dir.parent.mkdir(parents=True)
        (configuration / "durable-streams").mkdir(parents=True)

    def _command(self) -> list[str]:
        families = [
            str(int(getattr(socket, family)))
            for family in value_of(SERVICE, "RestrictAddressFamilies").split()
        ]
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = min(int(value_of(SERVICE, "LimitNOFILE")), hard)  # containers may not raise it
        command = shlex.split(value_of(SERVICE, "ExecStart").replace(PROGRAMS, str(self.programs)))
        confined = str(Path(__file__).with_name("confined.py"))
        return [
            *("prlimit", f"--nofile={limit}:{limit}", "env", "--ignore-environment"),
            *("PATH=/usr/bin:/bin", *self._environment()),
            *(sys.executable, confined, ",".join(sorted(allowed_calls())), ",".join(families)),
            *command,
        ]

    def _environment(self) -> list[str]:
        said = [self._placed(line) for line in values_of(SERVICE, "Environment")]
        for named in values_of(SERVICE, "EnvironmentFile"):
            file = Path(self._placed(named.removeprefix("-")))
            said += file.read_text().splitlines() if file.exists() else []
        return said

    def _placed(self, text: str) -> str:
        for specifier, place in self._places.items():
            text = text.replace(specifier, place)
        return text
