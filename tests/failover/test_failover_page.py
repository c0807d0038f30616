"""What docs/failover.rst says is what is tested, and ``scripts/cluster`` does what it says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.documents import blocks_of
from tests.programs import free_port, run_verb
from tools.cluster import patroni, problem
from tools.node import running_in_ci
from tools.proofs.cluster_faults import FAULTS
from tools.proofs.prove_cluster import Row, page
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "failover.rst"
FAULT = re.compile(r"^   \* - ``([a-z-]+)``\n     - (.+)$", re.MULTILINE)


def test_patroni_is_set_as_the_page_requires() -> None:
    (block,) = [block for block in blocks_of("docs/failover.rst") if block.language == "yaml"]
    written = [f"{name}: {json.dumps(value)}" for name, value in patroni.REQUIRED.items()]
    assert block.code.replace("quorum", '"quorum"').splitlines() == written
    text = " ".join(PAGE.read_text().split())
    for name, value in patroni.TIMES.items():
        assert f"``{name}: {value}``" in text


def test_the_page_names_the_version_of_patroni_that_is_tested() -> None:
    required = (ROOT / "tools" / "cluster" / "requirements.txt").read_text()
    found = re.search(r"^patroni\[etcd3\]==(.+)$", required, re.MULTILINE)
    assert found is not None
    assert f"Patroni {found[1]}," in " ".join(PAGE.read_text().split())


def test_the_table_has_each_fault_that_is_proved() -> None:
    told = dict(FAULT.findall((ROOT / "docs" / "failover-last.rst").read_text()))
    assert told == {fault.name: fault.words for fault in FAULTS}


def test_the_table_is_written_by_the_proof_and_has_the_worst_of_each() -> None:
    rows = [
        Row(FAULTS[0], waited_s, 0.1, behind_s, 3.0, 1.0, "7 200")
        for waited_s, behind_s in ((0.25, 4.25), (9.75, 0.5))
    ]
    written = page(rows, "2026-01-01")
    assert "- Outage\n     - Behind\n     - Broken for\n" in written
    assert "     - 9.8\n     - 4.2\n     - 3\n     - 7 200\n" in written


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    missing = problem()
    if missing is not None:
        if running_in_ci():
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    with subprocess.Popen(
        [sys.executable, "-m", "tools.cluster", str(free_port()), "--dead-s", "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate()


def test_it_says_what_to_kill_and_what_becomes_of_it(running: subprocess.Popen[str]) -> None:
    told: dict[str, Any] = {}

    def read_until(text: str) -> str:
        assert running.stdout is not None
        for line in running.stdout:
            for name in ("console", "files", "database"):
                if line.startswith(f"{name} "):
                    told[name] = line.split()[1]
            if text in line:
                return line
        raise AssertionError(f"it ended without a word of {text!r}")

    kill = read_until("# node1, one of ours").partition("#")[0]
    read_until("node2: ready")
    with urllib.request.urlopen(f"{told['console']}readyz") as ready:
        assert ready.status == 200
    checked = run_verb("store", "check", told["database"])
    assert re.search(r"^ok +commits wait for ANY 1 \(.*\), and 2 standbys", checked, re.MULTILINE)
    subprocess.run(["bash", "-c", kill], check=True)
    read_until("node1: is started again")
    read_until("node1: ready")
    running.send_signal(signal.SIGINT)
    assert running.wait() == 0
    assert not Path(told["files"]).exists(), "it leaves nothing"
