"""Two builds of our server are compared by the CPU time of the right process, and told apart."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.bench.fake_server import Lie, fake_server
from tools.bench import compare, pair
from tools.bench.builds import OTHER, THIS
from tools.bench.catalog import paired, select
from tools.bench.client import Client, Report, group
from tools.bench.cpu import CPU_US, REQUEST_BYTES, REQUESTS, SYSTEM_US, USER_US, cpu_metrics
from tools.bench.median import Interval, median_interval
from tools.bench.servers import Contender
from tools.bench.workloads import Live, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# ----------------------------------------------------------------------------------- statistics

TEN: Final = [7.0, 1.0, 10.0, 3.0, 5.0, 9.0, 2.0, 4.0, 8.0, 6.0]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([3.0], Interval(3.0, 3.0, 3.0, 0.0)),
        ([4.0, 2.0], Interval(3.0, 2.0, 4.0, 0.5)),
        (TEN[:5], Interval(5.0, 1.0, 10.0, 1 - 2 / 2**5)),
        (TEN[:6], Interval(6.0, 1.0, 10.0, 1 - 2 / 2**6)),
        (TEN, Interval(5.5, 2.0, 9.0, 1 - 2 * 11 / 2**10)),
        ([float(n) for n in range(1, 21)], Interval(10.5, 6.0, 15.0, 1 - 2 * 21700 / 2**20)),
    ],
    ids=lambda value: f"{len(value)} values" if isinstance(value, list) else "",
)
def test_the_interval_is_the_narrowest_of_95_percent_or_all_there_is(
    values: list[float], wanted: Interval
) -> None:
    assert median_interval(values) == wanted


def test_a_lower_level_makes_a_narrower_interval() -> None:
    assert median_interval(TEN, 0.85) == Interval(5.5, 3.0, 8.0, 1 - 2 * 56 / 2**10)


# ------------------------------------------------------------------------------------- CPU time


def report_of(requests: int, **more: float) -> Report:
    times = dict.fromkeys(("rate", "p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"), 1.0)
    counts = {"requests": requests, "errors": 0, "checked": requests, "bytes": 256 * requests}
    fields = {"role": "append", "seconds": 1.0, "first_errors": [], **counts, **times, **more}
    return Report.parse(fields)


def test_the_exact_sum_is_split_as_the_ticks_say() -> None:
    report = report_of(1000, cpu_s=2.0, user_ticks=30, system_ticks=10)

    assert cpu_metrics(report) == {
        CPU_US: 2000.0,
        USER_US: 1500.0,
        SYSTEM_US: 500.0,
        REQUEST_BYTES: 256.0,
        REQUESTS: 1000,
    }


def test_without_answers_or_without_a_process_there_is_no_figure() -> None:
    assert cpu_metrics(report_of(0, cpu_s=2.0, user_ticks=30, system_ticks=10)) == {}
    assert cpu_metrics(report_of(1000)) == {}


@contextmanager
def running(program: str) -> Iterator[int]:
    """A Python program that prints a line when it is where it wants to be; yields its pid."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


WAITING: Final = "print(flush=True); input()"
BURNING_IN_A_THREAD: Final = """
import threading
def burn():
    print(flush=True)
    while True:
        pass
threading.Thread(target=burn, daemon=True).start()
input()
"""


def watched(program: Path, pid: int) -> Report:
    with fake_server(Lie.NONE) as port:
        client = Client(program, port)
        client.run(group("fill", name="a", streams=1))
        (report,) = client.run(group("append", name="a", streams=1), seconds=0.2, watch=pid)
    assert report.requests > 0
    return report


def test_the_cpu_time_is_that_of_the_watched_process_and_all_its_threads(program: Path) -> None:
    with running(WAITING) as pid:
        waiting = watched(program, pid)
    with running(BURNING_IN_A_THREAD) as pid:
        burning = watched(program, pid)

    assert 0.0 <= waiting.more["cpu_s"] < burning.more["cpu_s"]
    assert burning.more["user_ticks"] > burning.more["system_ticks"]


def test_a_process_that_is_gone_has_no_cpu_time(program: Path) -> None:
    with running(WAITING) as pid:
        pass
    report = watched(program, pid)

    assert "cpu_s" not in report.more


@pytest.mark.parametrize("entry", paired([]), ids=lambda entry: entry.name)
def test_what_is_counted_of_each_usual_workload_is_known(entry: Any) -> None:
    workload: dict[str, Any] = {"samples": {THIS: [], OTHER: []}}
    counted = pair.complete({"workloads": [workload]}, [entry])["workloads"][0]["counted"]

    assert counted == ("delivery" if isinstance(entry.workload, Live) else "request")


def test_a_workload_of_several_kinds_of_requests_is_refused() -> None:
    with pytest.raises(ValueError, match="no CPU time for each request in append-while-catchup"):
        paired(["append-64", "append-while-catchup"])


# ---------------------------------------------------------------------------------------- pairs


def test_who_goes_first_alternates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    turns: list[str] = []

    def run_once(workload: Any, contender: Contender, *rest: Any) -> Sample:
        turns.append(contender.name)
        return Sample()

    monkeypatch.setattr(compare, "run_once", run_once)
    (entry,) = select(["append-1"], full=False)
    two = [Contender(THIS, ()), Contender(OTHER, ())]
    found = compare.run_entry(entry, two, tmp_path, compare.Plan(repeats=4), tmp_path)

    assert turns == [THIS, OTHER, OTHER, THIS, THIS, OTHER, OTHER, THIS]
    assert {name: len(samples) for name, samples in found["samples"].items()} == {THIS: 4, OTHER: 4}


def sample(cpu_us: float | None, errors: int = 0, request_bytes: float = 256.0) -> dict[str, Any]:
    parts = {USER_US: (cpu_us or 0) * 0.75, SYSTEM_US: (cpu_us or 0) * 0.25}
    metrics = {} if cpu_us is None else {CPU_US: cpu_us, **parts, REQUEST_BYTES: request_bytes}
    first_errors = ["oh no"] * min(errors, 1)
    return {"metrics": metrics, "errors": errors, "first_errors": first_errors}


def results_of(this: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one workload, as they are read back from their file."""
    (entry,) = select(["append-64"], full=False)
    names = ("processor", "cores", "memory_gib", "kernel", "file_system", "python", "node")
    machine = dict.fromkeys((*names, "commit", "commit_is_clean", "load_before"), "x")
    samples = {THIS: this, OTHER: other}
    workload = {"name": entry.name, "title": entry.title, "remarks": {}, "samples": samples}
    results = {
        "began": "today",
        "machine": machine,
        "plan": {"repeats": len(this), "seconds": 1.0},
        "servers": [{"name": name, "version": "1"} for name in samples],
        "workloads": [workload],
    }
    found: dict[str, Any] = json.loads(json.dumps(pair.complete(results, [entry])))
    return found


def test_the_ratio_is_the_median_of_those_within_the_pairs() -> None:
    results = results_of(
        [sample(10), sample(30), sample(24)],  # at a time when the machine is slow, both are
        [sample(20), sample(30), sample(20)],
    )

    table = pair.plain_table(results)

    (row,) = [line for line in table.splitlines() if line.startswith("append-64")]
    cells = ["append-64", "request", "1.000", "0.500 to 1.200 (75.0%, 3 pairs)"]
    assert re.split(" {2,}", row) == [*cells, "18.0 + 6.00", "15.0 + 5.00", "0, 0"]
    assert "     - 1.000" in pair.rst_tables(results)
    assert pair.all_errors(results) == 0


def test_a_sample_without_a_figure_takes_its_pair_away_and_is_an_error() -> None:
    results = results_of([sample(None), sample(8), sample(9)], [sample(1), sample(4), sample(9, 3)])

    assert results["workloads"][0]["comparison"]["pairs"] == 2
    assert results["workloads"][0]["comparison"]["ratio"] == 1.5
    assert pair.all_errors(results) == 1 + 3
    table = pair.plain_table(results)
    assert "append-64, this: no CPU time of an answered request was measured" in table
    assert "append-64, other: oh no" in table


def test_without_any_pair_the_table_has_no_ratio() -> None:
    results = results_of([sample(None, 7)], [sample(5)])

    assert results["workloads"][0]["comparison"]["ratio"] is None
    assert "7, 0" in pair.plain_table(results)


def test_the_table_says_when_the_requests_of_the_two_are_not_alike() -> None:
    alike = results_of([sample(5, request_bytes=1000)], [sample(5, request_bytes=1010)])
    unlike = results_of([sample(5, request_bytes=4000)], [sample(5, request_bytes=1000)])

    assert "not alike" not in pair.plain_table(alike)
    assert "not alike, they move 4,000 B (this) and 1,000 B (other)" in pair.plain_table(unlike)
