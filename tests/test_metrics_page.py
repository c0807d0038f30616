"""What docs/metrics.rst, the dashboard and the alert rules say of metrics is what is exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartServer

PAGE: Final = ROOT / "docs" / "metrics.rst"
ALERTS: Final = ROOT / "deploy" / "alerts.yml"
DASHBOARD: Final = ROOT / "deploy" / "grafana-dashboard.json"

METRIC_ROW: Final = re.compile(
    r"^   \* - ``(\w+)``\n     - (counter|gauge|histogram)$", re.MULTILINE
)
_NAMED: Final = re.compile(r"\b(?:durable_streams|process)_[a-z_]+")
_OF_A_HISTOGRAM: Final = re.compile(r"_(bucket|sum|count)$")
_NO_UNITS: Final = ("milliseconds", "ms", "minutes", "kib", "mib", "kilobytes", "percent")


@pytest.fixture
def text(start_server: StartServer) -> str:
    """What a server exports once all of it is known."""
    server = start_server()
    while True:
        with urllib.request.urlopen(f"{server.base_url}/metrics", timeout=60) as answer:
            found: str = answer.read().decode()
        if "durable_streams_disk_free_bytes " in found:
            return found


def exported(text: str) -> dict[str, str]:
    """The kinds of what is exported, by names as they are asked for."""
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in text_string_to_metric_families(text)
    }


def test_the_table_has_what_is_exported_and_nothing_else(text: str) -> None:
    rows = METRIC_ROW.findall(PAGE.read_text())
    assert rows == sorted(rows)
    assert dict(rows) == exported(text)


def test_names_are_as_prometheus_would_have_them(text: str) -> None:
    for name, kind in exported(text).items():
        words = name.split("_")
        assert re.fullmatch(r"[a-z][a-z_]*", name)
        assert (words[-1] == "total") == (kind == "counter"), name
        assert not set(words) & set(_NO_UNITS), name
        for unit in ("seconds", "bytes"):  # a unit is the last word, but for what is counted of it
            assert unit not in words or words[-1] == unit or words[-2:] == [unit, "total"], name
    helped = dict(re.findall(r"^# HELP (\w+) (.+)$", text, re.MULTILINE))
    assert helped.keys() == exported(text).keys()


def named_in(path: Path) -> set[str]:
    return {_OF_A_HISTOGRAM.sub("", name) for name in _NAMED.findall(path.read_text())}


@pytest.mark.parametrize("path", [PAGE, ALERTS, DASHBOARD], ids=lambda path: path.name)
def test_every_metric_that_is_named_is_exported(text: str, path: Path) -> None:
    names = named_in(path)
    assert len(names) > 10
    assert names <= exported(text).keys()


def test_everything_of_ours_that_is_exported_is_on_the_dashboard(text: str) -> None:
    assert {name for name in exported(text) if name.startswith("durable")} <= named_in(DASHBOARD)


def test_the_dashboard_asks_for_labels_and_values_that_there_are(text: str) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    identities = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identities)) == len(identities)
    assert len(panels) > 20
    known = {"instance", "le", *re.findall(r"[{,](\w+)=", text)}
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"]
            assert expression.count("(") == expression.count(")"), expression
            grouped = ",".join(re.findall(r"by \(([^)]+)\)", expression))
            used = {*re.findall(r"[{,](\w+)=", expression)}
            used |= {label.strip() for label in grouped.split(",") if label.strip()}
            assert used <= known, expression


def test_each_alert_says_what_to_do() -> None:
    rules = ALERTS.read_text().split("- alert: ")[1:]
    assert len(rules) > 5
    for rule in rules:
        for key in ("expr:", "severity:", "summary:", "action:"):
            assert key in rule, rule


def promtool(*arguments: str, given: str = "") -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian has it in the package prometheus)")
    run = subprocess.run(
        [program, *arguments], input=given, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert not run.stderr.strip(), run.stderr


def test_promtool_finds_nothing_wrong_with_what_is_exported(text: str) -> None:
    promtool("check", "metrics", given=text)


def test_promtool_finds_nothing_wrong_with_the_alerts() -> None:
    promtool("check", "rules", str(ALERTS))
