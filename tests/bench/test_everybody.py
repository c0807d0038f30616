"""All servers at all durabilities: who takes part, what each is compared with, and what is told."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from tools.bench import compare, everybody, report
from tools.bench.catalog import select
from tools.bench.everybody import IN_MEMORY, ON_DISK, RAKAIA_PYTHON, UNSYNCED, WITH_THE_KERNEL
from tools.bench.servers import OURS, Contender
from tools.bench.workloads import Appends
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SHORT = compare.Plan(seconds=0.2, repeats=1, read_back_streams=1000)


def ours() -> list[Contender]:
    found = everybody.contenders(sys.executable)
    return [server for server in found if server.name.startswith(OURS)]


def test_both_of_ours_take_part_at_each_durability_that_they_have() -> None:
    on_disk, with_the_kernel = (ON_DISK, OURS), (WITH_THE_KERNEL, UNSYNCED)
    told = [(server.acknowledged, server.beside) for server in ours()]
    assert told == [on_disk, on_disk, with_the_kernel, with_the_kernel]


def test_ours_are_right_wherever_they_run(program: Path, tmp_path: Path) -> None:
    for server in ours():
        sample = compare.run_once(Appends(2, 3), server, program, SHORT, tmp_path)
        assert sample.errors == 0, sample.first_errors
        assert sample.read_back > 0


def test_who_is_not_installed_is_left_out_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = everybody.contenders(sys.executable, tmp_path / "python")
    assert not [server for server in found if "rakaia" in server.name]
    assert f"rakaia is left out: there is no {tmp_path / 'python'}" in capsys.readouterr().err


def test_rakaia_takes_part_with_each_of_its_stores(program: Path, tmp_path: Path) -> None:
    if not RAKAIA_PYTHON.exists():
        pytest.skip("NOT TESTED, rakaia: it is not installed (scripts/setup bench)")
    servers = [s for s in everybody.contenders(sys.executable) if "rakaia" in s.name]
    assert [server.acknowledged for server in servers] == [ON_DISK, WITH_THE_KERNEL, IN_MEMORY]
    for server in servers:
        sample = compare.run_once(Appends(2, 3), server, program, SHORT, tmp_path)
        assert sample.errors == 0, sample.first_errors


def results_of(*servers: Contender, rates: dict[str, float]) -> dict[str, Any]:
    entry = select(["append-1"], full=False)[0]
    machine = dict.fromkeys(("processor", "cores", "memory_gib", "kernel", "file_system"), "x")
    more = dict.fromkeys(("python", "node", "commit", "commit_is_clean", "load_before"), "x")
    samples = {
        name: [{"metrics": {"rate": rate}, "errors": 0, "first_errors": []}]
        for name, rate in rates.items()
    }
    return {
        "began": "today",
        "everybody": True,
        "machine": {**machine, **more},
        "plan": asdict(SHORT),
        "servers": [asdict(server) for server in servers],
        "workloads": [
            {
                "name": entry.name,
                "title": entry.title,
                "metrics": [asdict(metric) for metric in entry.workload.metrics],
                "remarks": {},
                "samples": samples,
            }
        ],
    }


def test_each_is_told_with_what_it_acknowledges_and_compared_with_ours_of_that_kind(
    tmp_path: Path,
) -> None:
    servers = [
        Contender(OURS, (), acknowledged=ON_DISK),
        Contender(UNSYNCED, (), acknowledged=WITH_THE_KERNEL, beside=UNSYNCED),
        Contender("third", (), acknowledged=IN_MEMORY, beside=UNSYNCED),
    ]
    results = results_of(*servers, rates={OURS: 100.0, UNSYNCED: 400.0, "third": 200.0})
    assert [row.ratio for row in report.rows(results)] == ["1.00", "1.00", "0.50"]
    assert "append-1  third           in memory        200 /s" in report.plain_table(results)
    page = report.publish(results, [], tmp_path)
    assert page == tmp_path / "benchmarks-everybody.rst"
    assert "     - third\n     - in memory\n     - 200 /s" in page.read_text()


def test_the_page_says_who_takes_part() -> None:
    page = (ROOT / "docs" / "benchmarks.rst").read_text()
    for server in everybody.contenders(sys.executable):
        assert f"``{server.name}``" in page
        assert f"*{server.acknowledged}*" in page
    assert "six\nworkloads unless others are named" in page
    assert len(everybody.WORKLOADS.split(",")) == 6
