"""A kernel that refuses what a container may forbid: nothing of it is needed."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.filestore.files import forbidden_calls
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in forbidden_calls.CALLS,
    reason="only Linux has such a filter, and numbers of calls for few machines are known here",
)


@pytest.fixture
def run(data_dir: Path) -> Callable[[int, str], list[str]]:
    """Use streams in a process that may not make the calls; what it printed."""

    def run(number: int, step: str) -> list[str]:
        ended = subprocess.run(
            [sys.executable, forbidden_calls.__file__, str(data_dir), str(number), step],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if "has no filter" in ended.stderr:
            pytest.skip("the kernel has no filter of system calls")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.splitlines()

    return run


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS], ids=errno.errorcode.get)
def test_streams_are_written_forked_and_recovered_without_forbidden_calls(
    run: Callable[[int, str], list[str]], data_dir: Path, number: int
) -> None:
    assert run(number, "first") == ["a one,two,three"]
    backup = data_dir.parent / "backup"
    for path in [path for path in data_dir.rglob("*") if path.is_file()]:
        copy = backup / path.relative_to(data_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, copy)
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    expected = ["a one,two,three four", "fork one,two,three"]
    assert run(number, "fork") == expected
    assert run(number, "again") == expected
    assert {path: path.read_bytes() for path in before} == before
