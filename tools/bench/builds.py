"""Two builds of our server: that of this checkout, and that of another one.

Each runs in its checkout and with the interpreter of its own ``.venv``.  An environment that was
copied, or made elsewhere, may import the package of another checkout; the figures would be those of
the wrong build, so that is asked for before anything is measured.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.bench.machine import commit_of, versions
from tools.bench.servers import Contender, ServerFailed, our_server
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable

THIS: Final = "this"
OTHER: Final = "other"

_PACKAGE: Final = "durable_streams"
_WHERE: Final = f"import {_PACKAGE}; print({_PACKAGE}.__file__)"
_FLAG: Final = re.compile(r"--[a-z][a-z-]*")


class NoBuild(ServerFailed):
    """A checkout whose server cannot be run as its own."""


def _asked(python: str, checkout: Path, *words: str) -> str:
    """What the checkout's interpreter answers, started as its server is."""
    run = subprocess.run(
        [python, *words], cwd=checkout, capture_output=True, text=True, check=False
    )
    if run.returncode != 0:
        last = "\n".join(run.stderr.splitlines()[-3:])
        raise NoBuild(
            f"{python} does not run the server of {checkout}: {last}\n{_advice(checkout)}"
        )
    return run.stdout


def _advice(checkout: Path) -> str:
    return f"Run there: cd {shlex.quote(str(checkout))} && scripts/setup serve"


def interpreter_of(checkout: Path) -> str:
    """The Python of a checkout's own environment; NoBuild, with what to do, if there is none."""
    if not (checkout / _PACKAGE / "__init__.py").is_file():
        raise NoBuild(
            f"{checkout} is no checkout of this project: it has no {_PACKAGE}/__init__.py"
        )
    python = checkout / ".venv" / "bin" / "python"
    if not python.is_file():
        raise NoBuild(f"{checkout} has no environment .venv.\n{_advice(checkout)}")
    return str(python)


def check_import(python: str, checkout: Path) -> None:
    """NoBuild unless the interpreter, started in a checkout, imports the package from there."""
    found = Path(_asked(python, checkout, "-c", _WHERE).strip()).resolve()
    if not found.is_relative_to((checkout / _PACKAGE).resolve()):
        raise NoBuild(
            f"{python}, started in {checkout}, imports the package of another checkout, {found}.\n"
            f"{_advice(checkout)}"
        )


def flags_of(options: str) -> list[tuple[str, ...]]:
    """Options taken apart: each flag with its values."""
    flags: list[tuple[str, ...]] = []
    for word in shlex.split(options):
        if word.startswith("--") or not flags:
            flags.append((word,))
        else:
            flags[-1] += (word,)
    return flags


def understood(options: str, known: Iterable[str]) -> str:
    """The options without the flags that are not among the known ones."""
    kept = [flag for flag in flags_of(options) if flag[0].partition("=")[0] in known]
    return shlex.join([word for flag in kept for word in flag])


def _build(name: str, checkout: Path, python: str, options: str) -> Contender:
    server = our_server(python, options, name=name, checkout=checkout)
    commit, is_clean = commit_of(checkout)
    state = f"commit {commit or 'unknown'}{'' if is_clean else ', with changes'}"
    packages = ", ".join(f"{package} {version}" for package, version in versions(python).items())
    return replace(server, version=f"{server.version}, {state}; {packages}")


def two_builds(other: Path, python: str, options: str) -> list[Contender]:
    """The server of this checkout, run by ``python``, and that of the other one.

    ``options``: flags for both.  One that only one of them has is passed to that one alone.
    """
    other = other.resolve()
    pythons = {THIS: (ROOT, python), OTHER: (other, interpreter_of(other))}
    known: dict[str, set[str]] = {}
    for name, (checkout, interpreter) in pythons.items():
        check_import(interpreter, checkout)
        text = _asked(interpreter, checkout, "-m", _PACKAGE, "serve", "--help")
        known[name] = set(_FLAG.findall(text))
    for flag in flags_of(options):
        if understood(shlex.join(flag), known[THIS] | known[OTHER]) == "":
            raise NoBuild(f"neither server has the option {flag[0]}")
    return [
        _build(name, checkout, interpreter, understood(options, known[name]))
        for name, (checkout, interpreter) in pythons.items()
    ]


def same_environment(builds: list[Contender]) -> bool:
    """Whether all run with the same Python and the same packages that matter."""
    return len({build.version.rpartition("; ")[2] for build in builds}) == 1
