"""Running the workloads: the servers take turns, each time on a new and empty directory.

Who was first is last in the next round, as what one leaves behind is the next one's loss: a queue
at the disk, a warm processor.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.bench.client import Client, ClientFailed
from tools.bench.cpu import CPU_US
from tools.bench.servers import Contender, RunningServer, ServerFailed
from tools.bench.workloads import Sample, Stage, Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.catalog import Entry

SERVER_CORE: Final = 0
CLIENT_CORE: Final = 1
WARMUP_SHARE: Final = 0.2
MAX_WARMUP_S: Final = 1.0
_LARGE_FILE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """How often and how long."""

    seconds: float = 5.0
    repeats: int = 3
    read_back_streams: int = 1024
    token: str = ""


def cores() -> tuple[int, int] | tuple[None, None]:
    """The cores for servers and client; none if there are not two."""
    if hasattr(os, "sched_getaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) > 1:
            return allowed[SERVER_CORE], allowed[CLIENT_CORE]
    return None, None


def run_once(
    workload: Workload, contender: Contender, program: Path, plan: Plan, work: Path
) -> Sample:
    """One sample; whatever goes wrong with the server becomes an error in it.

    The data directory stays in ``work``, but for large files: ext4 does not use the inodes of
    files that were just removed, and looks for others the longer the more there are; that would be
    the next one's loss.
    """
    server_core, client_core = cores()
    directory = Path(tempfile.mkdtemp(prefix=f"{contender.name}-", dir=work))
    server = RunningServer(contender, directory, server_core)
    stage = Stage(
        server=server,
        client=Client(program, server.port, client_core, plan.token),
        seconds=plan.seconds,
        warmup_s=min(plan.seconds * WARMUP_SHARE, MAX_WARMUP_S),
        read_back_streams=plan.read_back_streams,
    )
    try:
        server.start()
        workload.run(stage)
    except (ServerFailed, ClientFailed, OSError, ValueError) as error:
        stage.sample.errors += 1
        stage.sample.first_errors.append(f"{type(error).__name__}: {error}"[:500])
    finally:
        server.stop()
        _remove_large_files(directory)
    return stage.sample


def _remove_large_files(root: Path) -> None:
    """Give back most of the room, but few inodes."""
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.lstat().st_size >= _LARGE_FILE_BYTES:
                path.unlink()


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _describe(sample: Sample, workload: Workload) -> str:
    figures = [
        f"{metric.title} {sample.metrics[metric.key]:,.2f} {metric.unit}"
        for metric in workload.metrics
        if metric.key in sample.metrics
    ]
    if CPU_US in sample.metrics:
        figures.append(f"CPU {sample.metrics[CPU_US]:,.2f} us")
    errors = f", {sample.errors:,} ERRORS: {sample.first_errors[:1]}" if sample.errors else ""
    return ", ".join(figures) + errors


def in_turn(contenders: Sequence[Contender], repeat: int) -> list[Contender]:
    """Their order in this round."""
    return list(contenders if repeat % 2 == 0 else reversed(contenders))


def run_entry(
    entry: Entry, contenders: Sequence[Contender], program: Path, plan: Plan, work: Path
) -> dict[str, Any]:
    """All samples of one workload, as they go into the results; small files stay in ``work``."""
    samples: dict[str, list[dict[str, Any]]] = {}
    remarks: dict[str, str] = {}
    for repeat in range(plan.repeats):
        for contender in in_turn(contenders, repeat):
            workload, remark = entry.instead.get(contender.name, (entry.workload, ""))
            if remark:
                remarks[contender.name] = remark
            if workload is None:
                continue
            sample = run_once(workload, contender, program, plan, work)
            samples.setdefault(contender.name, []).append(asdict(sample))
            turn = f"{entry.name} {repeat + 1}/{plan.repeats} {contender.name}"
            _progress(f"{turn}: {_describe(sample, workload)}")
    return {
        "name": entry.name,
        "title": entry.title,
        "metrics": [asdict(metric) for metric in entry.workload.metrics],
        "remarks": remarks,
        "samples": samples,
    }
