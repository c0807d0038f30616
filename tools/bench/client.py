"""The compiled load client: building it, running it, and what it reports."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.compiler import NotCompiled, compiled
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES: Final = Path(__file__).resolve().parent / "load"
WORK: Final = ROOT / ".bench"
"""Where everything lives that a run makes: on the file system of the project, not in memory."""

TIMEOUT_S: Final = 1800.0


class ClientFailed(Exception):
    """The load client could not be built or did not run to its end."""


def build() -> Path:
    """Compile the client, unless that was done for these sources; return the program."""
    try:
        return compiled("load", SOURCES)
    except NotCompiled as error:
        raise ClientFailed(f"no load client: {error}") from None


@dataclass(frozen=True)
class Report:
    """What the client says about one group of connections; times in milliseconds."""

    role: str
    requests: int
    errors: int
    checked: int
    bytes: int
    seconds: float
    rate: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    first_errors: list[str]
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, group: dict[str, Any]) -> Report:
        """Take the fields that all roles have; what only this one says goes into ``more``."""
        common = set(cls.__dataclass_fields__) - {"more"}
        fields = {name: group[name] for name in common}
        return cls(**fields, more={name: group[name] for name in group.keys() - common})


def arguments(**options: float | str | bool) -> list[str]:
    """Command-line options for keyword arguments: those that are False are left out."""
    words: list[str] = []
    for name, value in options.items():
        if value is True:
            words.append(f"--{name}")
        elif value is not False:
            words += [f"--{name}", str(value)]
    return words


def group(role: str, **options: float | str | bool) -> list[str]:
    """A group of connections, for :meth:`Client.run`."""
    return [role, *arguments(**options)]


@dataclass(frozen=True)
class Client:
    """The client, aimed at one server; it runs on the given core.

    ``token``: sent with every request; none if it is empty.
    """

    program: Path
    port: int
    core: int | None = None
    token: str = ""

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        token = ["--token", self.token] if self.token else []
        with pinned(self.core):
            return subprocess.Popen(
                [str(self.program), "--port", str(self.port), *token, *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

    def run(self, *groups: list[str], **options: float | str | bool) -> list[Report]:
        """Run the groups together and return their reports."""
        words = arguments(**options)
        with self._start(words + [word for group in groups for word in group]) as process:
            try:
                output, errors = process.communicate(timeout=TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        return _reports(process.returncode, output, errors)

    @contextmanager
    def hold(self, *groups: list[str]) -> Iterator[list[Report]]:
        """Hold the groups' connections open for a while; afterwards the list has the reports."""
        words = ["--hold", "--settle", "0.5", *(word for group in groups for word in group)]
        reports: list[Report] = []
        with self._start(words) as process:
            try:
                assert process.stdout is not None
                process.stdout.readline()  # that all are ready
                yield reports
                output, errors = process.communicate("", timeout=TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        reports += _reports(process.returncode, output, errors)


def _reports(code: int, output: str, errors: str) -> list[Report]:
    if code != 0:
        raise ClientFailed(f"the load client ended with {code}: {errors.strip()}")
    return [Report.parse(group) for group in json.loads(output)["groups"]]


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes that are started meanwhile stay on this core, with all their threads."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
