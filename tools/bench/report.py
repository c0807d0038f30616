"""Tables of what was measured: medians, and their ratio to ours."""

from __future__ import annotations

import shutil
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tools.bench.servers import OURS
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

DOCUMENTS: Final = ROOT / "docs"
COLUMNS: Final = ("workload", "server", "result", "spread", "to ours", "more", "errors")
_AFTER_SERVER: Final = 2


@dataclass(frozen=True)
class Row:
    """One workload on one server.

    ``spread``: of the samples, highest minus lowest in parts of the median.  ``ratio``: to ours, or
    to what the server is compared with.
    """

    workload: str
    title: str
    server: str
    result: str
    spread: str
    ratio: str
    more: str
    errors: str
    acknowledged: str

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of the columns."""
        return (
            *(self.workload, self.server, self.result),
            *(self.spread, self.ratio, self.more, self.errors),
        )


def figure(value: float) -> str:
    """Three digits that matter, or all before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def values_of(samples: list[dict[str, Any]], key: str) -> list[float]:
    """A metric in all samples that have it."""
    return [sample["metrics"][key] for sample in samples if key in sample["metrics"]]


def median_of(workload: dict[str, Any], server: str, key: str) -> float | None:
    """The median of a server's samples; None if there are none."""
    values = values_of(workload["samples"].get(server, []), key)
    return statistics.median(values) if values else None


def _row(workload: dict[str, Any], contender: dict[str, Any]) -> Row:
    server = contender["name"]
    samples = workload["samples"].get(server, [])
    first, *others = workload["metrics"]
    values = values_of(samples, first["key"])
    median = statistics.median(values) if values else None
    ours = median_of(workload, contender.get("beside", OURS), first["key"])
    more = [
        f"{metric['title']} {figure(value)} {metric['unit']}"
        for metric in others
        if (value := median_of(workload, server, metric["key"])) is not None
    ]
    remark = workload["remarks"].get(server)
    if remark:
        more.append(f"({remark})")
    errors = sum(sample["errors"] for sample in samples)
    return Row(
        workload=workload["name"],
        title=workload["title"],
        server=server,
        result="" if median is None else f"{figure(median)} {first['unit']}",
        spread=f"{(max(values) - min(values)) / median:.0%}" if median else "",
        ratio="" if median is None or not ours else f"{median / ours:.2f}",
        more=", ".join(more),
        errors=f"{errors:,}" if samples else "",
        acknowledged=contender.get("acknowledged", ""),
    )


def rows(results: dict[str, Any]) -> Iterator[Row]:
    """All rows, by workload."""
    for workload in results["workloads"]:
        for server in results["servers"]:
            yield _row(workload, server)


def _table(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The columns, with where writes are once acknowledged if that is told, and the rows."""
    found = list(rows(results))
    columns, lines = list(COLUMNS), [list(row.cells) for row in found]
    if any(row.acknowledged for row in found):
        columns.insert(_AFTER_SERVER, "acknowledged")
        for row, line in zip(found, lines, strict=True):
            line.insert(_AFTER_SERVER, row.acknowledged)
    return columns, lines


def _errors(results: dict[str, Any]) -> Iterator[str]:
    for workload in results["workloads"]:
        for server, samples in workload["samples"].items():
            for sample in samples:
                for error in sample["first_errors"][:2]:
                    yield f"{workload['name']}, {server}: {error}"


def machine_lines(results: dict[str, Any]) -> list[str]:
    """What it was measured on and with, and how."""
    machine, plan = results["machine"], results["plan"]
    clean = "" if machine["commit_is_clean"] else ", with changes"
    hardware = f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    system = f"Linux {machine['kernel']}, {machine['file_system']}"
    packages = ", ".join(
        f"{name} {machine.get(name, 'none')}" for name in ("aiohttp", "uvloop", "isal")
    )
    programs = f"Python {machine['python']}, {packages}; Node {machine['node'] or 'none'}"
    samples = f"{plan['repeats']} samples of {plan['seconds']:g} s, medians"
    return [
        f"{hardware}; {system}",
        f"{programs}; commit {machine['commit']}{clean}",
        f"{results['began']}; {samples}; load of the machine before: {machine['load_before']}",
        *_speed_lines(machine),
        *(f"{server['name']}: {server['version']}" for server in results["servers"]),
    ]


def _speed_lines(machine: dict[str, Any]) -> Iterator[str]:
    speeds = machine.get("speeds")
    if speeds is not None:
        yield (
            f"just then: a synced write of 4 KiB in {speeds['synced_write_us']} us, a directory "
            f"with a file in it in {speeds['directory_us']} us, a million additions in Python "
            f"in {speeds['additions_ms']} ms"
        )


def text_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines for the terminal."""
    lines = [columns, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    text.insert(1, "  ".join("-" * width for width in widths))
    return text


def error_lines(results: dict[str, Any]) -> list[str]:
    """The first errors, to stand below a table; none, no lines."""
    errors = list(dict.fromkeys(_errors(results)))[:40]
    return ["", "The first errors:", *errors] if errors else []


def plain_table(results: dict[str, Any]) -> str:
    """For the terminal."""
    table = text_table(*_table(results))
    return "\n".join([*machine_lines(results), "", *table, *error_lines(results)]) + "\n"


def _literal(cell: str) -> str:
    return f"``{cell}``" if cell else ""


def list_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, has_names: bool = True
) -> list[str]:
    """Lines of reStructuredText; ``has_names``: what is first in a row is set as code is."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    lines += [f"   * - {columns[0]}", *(f"     - {title}" for title in columns[1:])]
    for name, *cells in rows:
        first = _literal(name) if has_names else name
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in cells)]
    return lines


def rst_tables(results: dict[str, Any]) -> str:
    """For the documentation: the machine, and one table."""
    lines = [f"- {line}" for line in machine_lines(results)]
    lines += ["", *list_table(*_table(results))]
    return "\n".join(lines) + "\n"


def our_errors(results: dict[str, Any], ours: str) -> int:
    """How many errors our server had in all."""
    return sum(
        sample["errors"]
        for workload in results["workloads"]
        for sample in workload["samples"].get(ours, [])
    )


def publish(results: dict[str, Any], plots: list[Path], documents: Path = DOCUMENTS) -> Path:
    """Write the page that the documentation includes; its first line keeps it out of menus."""
    of_everybody = results.get("everybody", False)
    document = documents / f"benchmarks-{'everybody' if of_everybody else 'last'}.rst"
    command = f"scripts/bench {'--everybody ' if of_everybody else ''}--publish"
    text = [":orphan:", "", f".. Written by {command}.", "", rst_tables(results)]
    for plot in plots:
        if plot.suffix == ".svg":
            copy = document.with_suffix(".svg")
            shutil.copyfile(plot, copy)
            text += [f".. image:: {copy.name}", "   :alt: the same as bars", "   :width: 100%", ""]
    document.write_text("\n".join(text).rstrip() + "\n")
    return document
