"""Two builds of our server compared by their CPU time for each answered request (``--pair``).

The two take turns, so that each sample of one has a sample of the other right beside it, in the
same minute of a machine that has slow ones.  The ratio is taken within each such pair; the result
is the median of these ratios.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from tools.bench.builds import OTHER, THIS
from tools.bench.cpu import CPU_US, REQUEST_BYTES, SYSTEM_US, USER_US
from tools.bench.median import median_interval
from tools.bench.report import (
    error_lines,
    figure,
    list_table,
    machine_lines,
    median_of,
    text_table,
)
from tools.bench.workloads import Live

if TYPE_CHECKING:
    from tools.bench.catalog import Entry

PAIRS: Final = 10
COLUMNS: Final = (
    *("workload", "for each", "this/other", "interval of the median"),
    *("this: user + system, us", "other: user + system, us", "errors: this, other"),
)
EXPLANATION: Final = (
    "CPU time of the server, all its threads, for each answered request (event streams: for each "
    "delivery); less than 1: this checkout needs less"
)
_SAME_SIZE: Final = 0.02
"""Answers that are larger by no more than that are taken to be the same: a window cuts some."""


@dataclass(frozen=True)
class Comparison:
    """One workload: the median of this/other over the pairs, and in which interval it lies.

    All are None if there is no pair of samples that have a figure.
    """

    pairs: int
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None


def compare_pairs(workload: dict[str, Any]) -> Comparison:
    """From the samples of both, the n-th of one with the n-th of the other."""
    samples = workload["samples"]
    ratios = [
        this["metrics"][CPU_US] / other["metrics"][CPU_US]
        for this, other in zip(samples[THIS], samples[OTHER], strict=True)
        if this["metrics"].get(CPU_US) and other["metrics"].get(CPU_US)
    ]
    if not ratios:
        return Comparison(0)
    found = median_interval(ratios)
    return Comparison(len(ratios), found.median, found.low, found.high, found.level)


def complete(results: dict[str, Any], entries: list[Entry]) -> dict[str, Any]:
    """The results with the comparisons; a sample that has no figure becomes an error."""
    for entry, workload in zip(entries, results["workloads"], strict=True):
        for sample in itertools.chain(*workload["samples"].values()):
            if CPU_US not in sample["metrics"] and not sample["errors"]:
                sample["errors"] = 1
                sample["first_errors"].append("no CPU time of an answered request was measured")
        workload["counted"] = "delivery" if isinstance(entry.workload, Live) else "request"
        workload["comparison"] = asdict(compare_pairs(workload))
    return {**results, "pair": True}


def is_pair(results: dict[str, Any]) -> bool:
    """Whether they are those of two builds."""
    return "pair" in results


def all_errors(results: dict[str, Any]) -> int:
    """Of both builds, in all samples."""
    return sum(
        _errors_of(workload, name) for workload in results["workloads"] for name in (THIS, OTHER)
    )


def _errors_of(workload: dict[str, Any], name: str) -> int:
    return sum(sample["errors"] for sample in workload["samples"][name])


def _parts(workload: dict[str, Any], name: str) -> str:
    user, system = (median_of(workload, name, key) for key in (USER_US, SYSTEM_US))
    return "" if user is None or system is None else f"{figure(user)} + {figure(system)}"


def _cells(workload: dict[str, Any]) -> tuple[str, ...]:
    found = Comparison(**workload["comparison"])
    ratio = interval = ""
    if found.ratio is not None:
        ratio = f"{found.ratio:.3f}"
        pairs = f"{found.pairs} pair{'s' if found.pairs > 1 else ''}"
        interval = f"{found.low:.3f} to {found.high:.3f} ({found.level:.1%}, {pairs})"
    errors = ", ".join(f"{_errors_of(workload, name):,}" for name in (THIS, OTHER))
    parts = (_parts(workload, THIS), _parts(workload, OTHER))
    return (workload["name"], workload["counted"], ratio, interval, *parts, errors)


def _remarks(results: dict[str, Any]) -> list[str]:
    """Where the requests of the two are not alike: a longer answer may well cost more."""
    remarks: list[str] = []
    for workload in results["workloads"]:
        this, other = (median_of(workload, name, REQUEST_BYTES) for name in (THIS, OTHER))
        if this and other and abs(this / other - 1) > _SAME_SIZE:
            sizes_told = f"{this:,.0f} B (this) and {other:,.0f} B (other)"
            remarks.append(f"{workload['name']}: requests are not alike, they move {sizes_told}")
    return remarks


def plain_table(results: dict[str, Any]) -> str:
    """For the terminal."""
    table = text_table(COLUMNS, map(_cells, results["workloads"]))
    lines = [*machine_lines(results), "", EXPLANATION, "", *table, *_remarks(results)]
    return "\n".join([*lines, *error_lines(results)]) + "\n"


def rst_tables(results: dict[str, Any]) -> str:
    """For a document."""
    lines = [*machine_lines(results), EXPLANATION, *_remarks(results)]
    table = list_table(COLUMNS, map(_cells, results["workloads"]))
    return "\n".join([*(f"- {line}" for line in lines), "", *table]) + "\n"
