"""The benchmark works against our server, and its client notices wrong answers."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.bench.fake_server import Lie, fake_server
from tools.bench import compare, machine, pattern, readback, report
from tools.bench.catalog import ENTRIES, select
from tools.bench.client import Client, Report, group
from tools.bench.servers import NODE, OURS, other_server, our_server
from tools.bench.workloads import (
    MIB,
    Appends,
    AppendsBeside,
    AppendsWhileReading,
    Creates,
    Live,
    Memory,
    Reads,
    Restart,
    Workload,
)

if TYPE_CHECKING:
    from pathlib import Path

SHORT: Final = compare.Plan(seconds=0.2, repeats=1, read_back_streams=1000)
READS: Final = Reads(2, 3, 64 * 1024, size=16 * 1024)

WORKLOADS: Final[dict[str, Workload]] = {
    "appends": Appends(5, 3),
    "appends over more streams than connections": Appends(3, 40),
    "JSON appends": Appends(3, 2, as_json=True),
    "producers": Appends(3, 2, producers=True),
    "1 MiB appends": Appends(2, 2, size=MIB),
    "creates": Creates(2),
    "creates and appends": Creates(2, records=1),
    "small reads": Reads(4, 3, 256),
    "catch-up": Reads(2, 2, 6 * MIB, size=64 * 1024),
    "catch-up on JSON": Reads(2, 2, MIB, batch=64, as_json=True),
    "server-sent events": Live("sse", 5),
    "long-polling": Live("long-poll", 5),
    "appends while others read": AppendsWhileReading(Appends(2, 3), READS),
    "appends beside event streams": AppendsBeside("sse", 20),
    "appends beside long-polls": AppendsBeside("long-poll", 20),
    "memory": Memory(20, 5, idle_s=0.0),
    "restart": Restart(50),
}
NOT_READ_BACK: Final = (Reads, Live, Memory)


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_workload_runs_against_our_server_and_all_answers_are_right(
    kind: str, program: Path, tmp_path: Path
) -> None:
    workload = WORKLOADS[kind]

    sample = compare.run_once(workload, our_server(sys.executable, ""), program, SHORT, tmp_path)

    assert sample.errors == 0, sample.first_errors
    assert sample.checked > 0
    assert sample.read_back > 0 or isinstance(workload, NOT_READ_BACK)
    assert workload.metrics[0].key in sample.metrics


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_workload_that_is_listed_is_of_a_kind_that_is_tested(entry: Any) -> None:
    assert type(entry.workload) in {type(workload) for workload in WORKLOADS.values()}


# ------------------------------------------------------------------------------- wrong answers


def load(program: Path, port: int, *groups: list[str]) -> list[Report]:
    return Client(program, port).run(*groups, patience=0.5, seconds=0.5, grace=0.5, settle=0.1)


def filled(program: Path, port: int) -> list[Report]:
    return load(program, port, group("fill", name="f", streams=2, records=20))


def appended(program: Path, port: int) -> list[Report]:
    reports = load(program, port, group("fill", name="a", streams=2))
    for producers in (False, True):
        connections = group("append", name="a", streams=2, connections=3, producers=producers)
        reports += load(program, port, connections)
    return reports


def read(program: Path, port: int) -> list[Report]:
    reading = group("read", name="f", streams=2, records=20, connections=2)
    return filled(program, port) + load(program, port, reading)


def read_json(program: Path, port: int) -> list[Report]:
    filling = group("fill", name="j", streams=2, records=20, json=True)
    reading = group("read", name="j", streams=2, records=20, connections=2, json=True)
    return load(program, port, filling) + load(program, port, reading)


def followed(program: Path, port: int, role: str) -> list[Report]:
    reports = load(program, port, group("fill", name="live", streams=1))
    readers = group(role, name="live", connections=3)
    return reports + load(program, port, readers, group("writer", name="live", rate=100))


def sse(program: Path, port: int) -> list[Report]:
    return followed(program, port, "sse")


def long_poll(program: Path, port: int) -> list[Report]:
    return followed(program, port, "long-poll")


@pytest.mark.parametrize("act", [filled, appended, read, read_json, sse, long_poll])
def test_a_server_that_tells_the_truth_is_believed(act: Any, program: Path) -> None:
    with fake_server(Lie.NONE) as port:
        reports = act(program, port)

    assert [error for report in reports for error in report.first_errors] == []
    assert all(report.checked > 0 for report in reports)


@pytest.mark.parametrize(
    ("lie", "act", "complaint"),
    [
        (Lie.STATUS, filled, "a create was answered 200"),
        (Lie.STATUS, appended, "an append was answered 202"),
        (Lie.NO_OFFSET, filled, "without Stream-Next-Offset"),
        (Lie.NO_OFFSET, appended, 'Stream-Next-Offset ""'),
        (Lie.SAME_OFFSET, filled, "does not come after"),
        (Lie.SAME_OFFSET, appended, "does not come after"),
        (Lie.OTHER_PRODUCER, appended, 'sequence "7"'),
        (Lie.NO_PRODUCER, appended, 'sequence ""'),
        (Lie.DOUBLED_COMMA, read_json, "is not what was written"),
        *(
            (lie, act, complaint)
            for lie in (Lie.EXTRA_COMMA, Lie.LEADING_COMMA, Lie.LEADING_NUL)
            for act, complaint in (
                (read_json, "is not what was written"),
                (sse, "is not what came"),
                (long_poll, "is not what came"),
            )
        ),
        (Lie.LOST_APPEND, filled, "does not come after"),
        (Lie.LOST_APPEND, read, "is not what was written"),
        (Lie.DOUBLED_APPEND, read, "is not what was written"),
        (Lie.WRONG_BYTE, read, "record 10 is not what was written"),
        (Lie.CUT_READ, read, "ends after 19 records"),
        (Lie.ENDLESS_READ, read, "does not go on"),
        (Lie.SHORT_BODY, read, "the connection was lost before the answer was complete"),
        (Lie.NO_HTTP, filled, "is no HTTP"),
        *(
            (lie, act, complaint)
            for act in (sse, long_poll)
            for lie, complaint in (
                (Lie.LOST_EVENT, "event 2 of"),
                (Lie.DOUBLED_EVENT, "event 3 of"),
                (Lie.SWAPPED_EVENTS, "event 2 of"),
                (Lie.LAST_EVENT_MISSING, "events arrived"),
            )
        ),
    ],
)
def test_a_wrong_answer_is_noticed(lie: Lie, act: Any, complaint: str, program: Path) -> None:
    with fake_server(lie) as port:
        reports = act(program, port)

    errors = [error for report in reports for error in report.first_errors]
    assert sum(report.errors for report in reports) > 0
    assert any(complaint in error for error in errors), errors


def test_a_server_that_ends_is_an_error_and_no_result(program: Path, tmp_path: Path) -> None:
    broken = other_server(f"broken={sys.executable} -c pass {{port}}")

    sample = compare.run_once(Appends(1, 1), broken, program, SHORT, tmp_path)

    assert sample.metrics == {}
    assert "ended by itself" in sample.first_errors[0]


# -------------------------------------------------------------------------------- reading back

SENT: Final = readback.Appended("a", 2, 256, as_json=False, sent=[4, 3], unsure=frozenset({(0, 2)}))
"""Two connections, which began at streams 0 and 1: stream 0 has (0, 0), (0, 2)?, (1, 1)."""


@pytest.mark.parametrize(
    ("in_stream", "fault"),
    [
        ([(0, 0), (1, 1)], None),
        ([(1, 1), (0, 0), (0, 2)], None),
        ([(0, 0)], "(1, 1) was acknowledged, and is lost"),
        ([(1, 1), (0, 2)], "(0, 2) where 0 was due"),
        ([(0, 0), (0, 0), (1, 1)], "(0, 0) where 2 was due"),
        ([(0, 2), (0, 0), (1, 1)], "(0, 2) where 0 was due"),
        ([(0, 0), (1, 1), (1, 3)], "(1, 3) was never sent"),
        ([(0, 0), (0, 1), (1, 1)], "(0, 1) where 2 was due"),
        ([(0, 0), (1, 1), (7, 0)], "(7, 0) was never sent"),
    ],
)
def test_reading_back_finds_what_was_lost_doubled_or_moved(
    in_stream: list[tuple[int, int]], fault: str | None
) -> None:
    findings = readback.Findings()

    records = [pattern.record(256, owner, number) for owner, number in in_stream]
    readback.check_stream(SENT, 0, records, findings)

    assert [text for text in findings.faults if fault is None or fault not in text] == []
    assert bool(findings.faults) == (fault is not None)


def test_reading_back_finds_a_changed_byte() -> None:
    findings = readback.Findings()
    data = bytearray(pattern.record(256, 0, 0))
    data[200] ^= 1

    readback.check_stream(SENT, 0, [bytes(data)], findings)

    assert "is none that was sent" in findings.faults[0]


# ------------------------------------------------------------------------------------- results


def results_of(samples: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    entry = select(["append-1"], full=False)[0]
    metrics = [{"key": m.key, "title": m.title, "unit": m.unit} for m in entry.workload.metrics]
    workload = {"name": entry.name, "title": entry.title, "metrics": metrics, "remarks": {}}
    keys = ("processor", "cores", "memory_gib", "kernel", "file_system", "python", "aiohttp")
    more = ("uvloop", "isal", "node", "commit", "commit_is_clean", "load_before")
    speeds = {"synced_write_us": 140, "directory_us": 60, "additions_ms": 12.5}
    return {
        "began": "today",
        "machine": {**dict.fromkeys((*keys, *more), "x"), "speeds": speeds},
        "plan": {"repeats": 3, "seconds": 1.0},
        "servers": [{"name": name, "version": "1"} for name in samples],
        "workloads": [{**workload, "samples": samples}],
    }


def test_tables_tell_medians_ratios_and_errors() -> None:
    def sample(rate: float, errors: int = 0) -> dict[str, Any]:
        metrics = {"rate": rate, "p50_ms": 1.0}
        return {"metrics": metrics, "errors": errors, "first_errors": ["oh"] * min(errors, 1)}

    results = results_of(
        {OURS: [sample(100), sample(900), sample(200)], NODE: [sample(50), sample(50, 7)]}
    )

    ours, node = report.rows(json.loads(json.dumps(results)))
    assert (ours.result, ours.ratio, ours.errors) == ("200 /s", "1.00", "0")
    assert (node.result, node.ratio, node.errors) == ("50.0 /s", "0.25", "7")
    table = report.plain_table(results)
    assert "append-1, node: oh" in table
    assert "a directory with a file in it in 60 us" in table
    assert "     - 0.25" in report.rst_tables(results)


def test_the_machine_is_measured_without_any_server(tmp_path: Path) -> None:
    results = results_of({OURS: []})
    results["machine"]["speeds"] = machine.speeds(tmp_path)

    assert "just then: a synced write of 4 KiB in " in report.plain_table(results)
    assert (tmp_path / "speed").stat().st_size == 1024 * 1024
    assert report.our_errors(results, OURS) == 0
