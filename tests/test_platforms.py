"""Where no files can be served it is said, and nothing else is missed.

Such systems are played, by hiding what they have not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams import platforms
from tools.server_process import ROOT

HIDING = """
import sys
sys.platform = {platform!r}
for name in {modules!r}:
    sys.modules[name] = None
"""


def run(
    tmp_path: Path, *arguments: str, platform: str = "win32", hidden: tuple[str, ...] = ("fcntl",)
) -> subprocess.CompletedProcess[str]:
    """Run Python where these modules are missing, from its start on."""
    customized = HIDING.format(platform=platform, modules=hidden)
    (tmp_path / "sitecustomize.py").write_text(customized)
    return subprocess.run(
        [*arguments],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [
        (sys.executable, "-m", "durable_streams", "serve"),
        (sys.executable, "-Wdefault", "-m", "durable_streams"),
        (str(Path(sys.executable).with_name("durable-streams")), "--version"),
    ],
    ids=["module", "module with options", "script"],
)
def test_the_program_says_in_one_line_what_is_missing_and_what_to_use(
    tmp_path: Path, program: tuple[str, ...]
) -> None:
    ended = run(tmp_path, *program, hidden=("fcntl", "resource"))
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("durable-streams: error: durable_streams runs on Linux and macOS")
    assert "Windows has no fcntl (the locks" in line
    assert "and no resource (" in line
    assert "WSL 2" in line
    assert "container" in line


@pytest.mark.parametrize("hidden", ["fcntl", "resource"])
@pytest.mark.parametrize("name", ["open", "open_sync", "mount", "asgi"])
def test_a_program_that_asks_for_what_works_with_files_gets_an_import_error_that_says_so(
    tmp_path: Path, hidden: str, name: str
) -> None:
    code = f"try: from durable_streams import {name}\nexcept ImportError as error: print(error)"
    ended = run(tmp_path, sys.executable, "-c", code, platform="emscripten", hidden=(hidden,))
    assert ended.stderr == ""
    assert f"Python on emscripten has no {hidden} (" in ended.stdout
    assert "WSL 2" in ended.stdout


def test_what_needs_no_files_is_there_all_the_same(tmp_path: Path) -> None:
    names = "Offset, ProducerClaim, StreamNotFound, Streams, Tail, connect"
    code = f"from durable_streams import {names}; print('here')"
    hidden = ("fcntl", "resource")
    ended = run(tmp_path, sys.executable, "-c", code, platform="emscripten", hidden=hidden)
    assert (ended.stderr, ended.stdout) == ("", "here\n")


def test_here_it_runs() -> None:
    assert platforms.problem() is None
    platforms.check()


def test_all_that_some_systems_have_not_is_looked_for() -> None:
    """Modules of the standard library that the package imports, and Windows has not."""
    unix_only = {"fcntl", "resource", "grp", "pwd", "termios", "tty", "pty", "syslog", "posix"}
    imported = {
        word
        for path in (ROOT / "durable_streams").rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if line.startswith(("import ", "from "))
        for word in [line.split()[1].split(".")[0]]
    }
    assert imported & unix_only == set(platforms._NEEDED)
