"""A proof that finds that nothing goes on ends, as a failure, and says what it saw."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest

from tests.programs import free_port
from tools.proofs import prove_cluster
from tools.proofs.cluster_faults import Fault
from tools.proofs.cluster_load import Load, Plan
from tools.proofs.prove_cluster import Proof, run_all
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.cluster import FailoverCluster

PLAN = Plan(producers=3, readers=2, javascript=0, streams=1)


class Nobody:
    """In the place of a cluster, of which nothing is left."""

    def members(self) -> list[object]:
        return []


def strike(cluster: FailoverCluster) -> Callable[[], None]:
    raise AssertionError(f"{cluster} is struck although writes did not go on")


async def run(directory: Path) -> Load:
    """All of a run at a port where nobody is, whose streams are there already."""
    async with aiohttp.ClientSession() as session:
        load = Load(session, f"http://127.0.0.1:{free_port()}", [], PLAN, directory)
        options = argparse.Namespace(minutes=0, turns=1)
        proof = Proof(cast("FailoverCluster", Nobody()), load, options)
        await run_all(load, proof, [Fault("any", "anything", strike, lambda _: True)])
        return load


@pytest.mark.parametrize("limit", ["_CREATE_S", "_GOES_ON_S", "_RUN_DOWN_S"])
def test_a_dead_store_ends_as_a_failure(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def nothing(*_: object) -> None:
        return

    monkeypatch.setattr(prove_cluster, limit, 0.05)
    if limit != "_CREATE_S":
        monkeypatch.setattr(Load, "create", nothing)
    if limit == "_RUN_DOWN_S":
        monkeypatch.setattr(Proof, "run", nothing)
    load = asyncio.run(run(tmp_path))
    assert not load.is_compared
    (text,) = load.faults.texts
    assert text in capsys.readouterr().out, "it is printed as soon as it is found"
    if limit == "_GOES_ON_S":
        assert "writes do not go on: 3 wait" in text
        assert "ClientConnectorError" in text
    else:
        assert "TimeoutError" in text


def test_what_cannot_be_done_is_not_proved() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tools.proofs.prove_cluster", "--loopback"),
            *("--faults", "disk-full", "node"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "not all that was asked for can be done" in done.stderr
