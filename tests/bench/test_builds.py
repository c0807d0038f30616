"""The two builds of a comparison are told apart, and the command that compares them does so."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.bench.fake_server import Lie
from tools.bench import builds
from tools.bench.builds import OTHER, THIS, NoBuild, two_builds
from tools.bench.cpu import CPU_US
from tools.bench.servers import ServerFailed
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LIAR: Final = """
import sys
sys.path.insert(1, {root!r})
from tests.bench.fake_server import FakeServer, Lie
if "--version" in sys.argv:
    print("liar 1.0")
elif "--help" in sys.argv:
    print("--port PORT --data-dir PATH [--only-of-the-other N]")
else:
    FakeServer(Lie.{lie}, int(sys.argv[sys.argv.index("--port") + 1])).serve_forever()
"""


def write_python(checkout: Path, before: str = "") -> None:
    """An interpreter where scripts/setup makes one; it is that of the tests."""
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n{before}\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Another checkout, of this same package."""
    checkout = tmp_path / "a copy"
    checkout.mkdir()
    (checkout / "durable_streams").symlink_to(ROOT / "durable_streams")
    write_python(checkout)
    return checkout


def write_liar(checkout: Path, lie: Lie) -> Path:
    """A checkout whose server lies."""
    package = checkout / "durable_streams"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(LIAR.format(root=str(ROOT), lie=lie.name))
    write_python(checkout)
    return checkout


def test_each_build_is_started_in_its_checkout_with_its_own_interpreter(copy: Path) -> None:
    this, other = two_builds(copy, sys.executable, "")

    assert (this.name, this.command[0], this.directory) == (THIS, sys.executable, str(ROOT))
    assert (other.name, other.directory) == (OTHER, str(copy))
    assert other.command[0] == str(copy / ".venv" / "bin" / "python")
    assert "aiohttp 3." in other.version
    assert builds.same_environment([this, other])


def test_a_directory_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoBuild, match="is no checkout of this project"):
        two_builds(tmp_path / "nothing", sys.executable, "")


def test_a_checkout_without_an_environment_is_refused_with_what_to_run(copy: Path) -> None:
    (copy / ".venv" / "bin" / "python").unlink()

    with pytest.raises(NoBuild, match=r"has no environment \.venv") as refused:
        two_builds(copy, sys.executable, "")

    assert f"Run there: cd '{copy}' && scripts/setup serve" in str(refused.value)


def test_a_checkout_whose_interpreter_imports_another_package_is_refused(tmp_path: Path) -> None:
    checkout = write_liar(tmp_path / "other", Lie.NONE)
    (checkout / ".venv" / "bin" / "python").unlink()
    (checkout / ".venv" / "bin").rmdir()
    write_python(checkout, before=f"cd {shlex.quote(str(ROOT))}")

    with pytest.raises(NoBuild, match="imports the package of another checkout") as refused:
        two_builds(checkout, sys.executable, "")

    assert str(ROOT / "durable_streams") in str(refused.value)
    assert "scripts/setup serve" in str(refused.value)


def test_a_checkout_whose_package_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    checkout = write_liar(tmp_path / "other", Lie.NONE)
    (checkout / "durable_streams" / "__init__.py").write_text("import not_installed_at_all")

    with pytest.raises(ServerFailed, match="No module named 'not_installed_at_all'") as refused:
        two_builds(checkout, sys.executable, "")

    assert "scripts/setup serve" in str(refused.value)


def test_an_option_that_one_server_lacks_is_passed_to_the_other_alone(tmp_path: Path) -> None:
    checkout = write_liar(tmp_path / "other", Lie.NONE)
    options = "--durability interval --only-of-the-other 3 --no-fast-lane"

    this, other = two_builds(checkout, sys.executable, options)

    assert this.command[-3:] == ("--durability", "interval", "--no-fast-lane")
    assert other.command[-3:] == ("{data_dir}", "--only-of-the-other", "3")
    with pytest.raises(NoBuild, match="neither server has the option --nobody-has-it"):
        two_builds(checkout, sys.executable, "--nobody-has-it=1")


# ---------------------------------------------------------------------------------- the command


def bench(checkout: Path, out: Path, workloads: str) -> tuple[int, str, dict[str, Any]]:
    """Run the command; return its exit status, what it printed and the results.

    A second is long enough for an event to arrive, wherever this is.
    """
    options = ["--pairs", "1", "--seconds", "1", "--workloads", workloads, "--out", str(out)]
    run = subprocess.run(
        [sys.executable, "-m", "tools.bench", "--pair", str(checkout), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    file = out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    return run.returncode, run.stdout + run.stderr, results


@pytest.mark.usefixtures("program")
def test_a_build_against_itself_has_a_ratio_and_no_errors(copy: Path, tmp_path: Path) -> None:
    status, printed, results = bench(copy, tmp_path / "out", "append-1,sse-1")

    assert status == 0, printed
    assert "this/other" in printed
    appends, events = results["workloads"]
    assert (appends["counted"], events["counted"]) == ("request", "delivery")
    for workload in (appends, events):
        assert workload["comparison"]["pairs"] == 1
        for samples in workload["samples"].values():
            assert samples[0]["metrics"][CPU_US] > 0
            assert samples[0]["errors"] == 0


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (Lie.STATUS, "a create was answered 200"),
        (Lie.LOST_APPEND, "does not come after"),
        (Lie.DOUBLED_APPEND, "was due"),  # that is only seen when the streams are read back
    ],
)
def test_a_build_that_lies_fails_the_command(lie: Lie, complaint: str, tmp_path: Path) -> None:
    checkout = write_liar(tmp_path / "liar", lie)

    status, printed, results = bench(checkout, tmp_path / "out", "append-1")

    assert status == 1, printed
    assert complaint in printed
    (workload,) = results["workloads"]
    assert workload["samples"][THIS][0]["errors"] == 0
    assert workload["samples"][OTHER][0]["errors"] > 0


@pytest.mark.usefixtures("program")
def test_a_build_whose_server_ends_fails_the_command(tmp_path: Path) -> None:
    checkout = write_liar(tmp_path / "other", Lie.NONE)
    main = checkout / "durable_streams" / "__main__.py"
    main.write_text(main.read_text().replace("FakeServer(", "sys.exit('not today') or FakeServer("))

    status, printed, _ = bench(checkout, tmp_path / "out", "append-1")

    assert status == 1, printed
    assert "other ended by itself: not today" in printed


def test_a_refused_checkout_ends_the_command_before_anything_is_measured(tmp_path: Path) -> None:
    status, printed, results = bench(tmp_path, tmp_path / "out", "append-1")

    assert status == 2
    assert "is no checkout of this project" in printed
    assert "Traceback" not in printed
    assert results == {}
