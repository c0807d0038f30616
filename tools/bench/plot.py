"""The results as bars, if matplotlib is installed (the extra ``bench``)."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Final

from tools.bench.report import median_of
from tools.bench.servers import OURS

if TYPE_CHECKING:
    from pathlib import Path

_BAR: Final = 0.8
_INCHES_FOR_A_WORKLOAD: Final = 0.45


def draw(results: dict[str, Any], directory: Path) -> list[Path]:
    """Draw the rates in parts of ours, and the p99 latencies; return the files."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot: Any = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        print("No plot: matplotlib is not installed (the extra 'bench').", file=sys.stderr)
        return []
    rated = [w for w in results["workloads"] if w["metrics"][0]["unit"].endswith("/s")]
    if not rated:
        return []
    servers = [server["name"] for server in results["servers"]]
    height = 1.5 + _INCHES_FOR_A_WORKLOAD * len(rated)
    chart, (rates, latencies) = pyplot.subplots(1, 2, figsize=(12, height), sharey=True)
    for place, server in enumerate(servers):
        shift = _BAR * ((place + 0.5) / len(servers) - 0.5)
        at = [index + shift for index in range(len(rated))]
        thick = _BAR / len(servers)
        rates.barh(at, [_ratio(w, server) for w in rated], thick, label=server)
        latencies.barh(at, [median_of(w, server, "p99_ms") or 0 for w in rated], thick)
    rates.set_yticks(range(len(rated)), [w["name"] for w in rated])
    rates.invert_yaxis()
    rates.set_title("rate, ours = 1 (longer is better)")
    latencies.set_title("p99 latency, ms (shorter is better)")
    for axes in (rates, latencies):
        axes.set_xscale("log")
        axes.grid(axis="x", alpha=0.3)
    chart.legend(loc="upper left", ncols=len(servers))
    chart.tight_layout(rect=(0, 0, 1, 0.97))
    files = [directory / "results.svg", directory / "results.png"]
    for file in files:
        chart.savefig(file)
    pyplot.close(chart)
    return files


def _ratio(workload: dict[str, Any], server: str) -> float:
    key = workload["metrics"][0]["key"]
    value, ours = median_of(workload, server, key), median_of(workload, OURS, key)
    return value / ours if value and ours else 0.0
