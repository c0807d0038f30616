"""Writers at full speed while two copiers read everything (`scripts/prove-pressure`)."""

from __future__ import annotations

import argparse
import asyncio
import math
import shutil
import sys
import tempfile
from pathlib import Path

from durable_streams import Settings
from tools.proofs.pressure import KIB, MIB, Load, in_library, over_http


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/prove-pressure", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="over HTTP, and again in the library")
    add("--body-bytes", type=int, default=100, help="of each append")
    add("--segment-kib", type=int, default=64, help="size of a segment")
    add("--write-ms", type=float, default=0.5, help="that a write to a stream's files takes more")
    add("--journal-mib", type=int, default=64, help="size of each journal file")
    options = parser.parse_args()
    settings = {
        "segment_bytes": options.segment_kib * KIB,
        "journal_file_bytes": options.journal_mib * MIB,
        "max_append_bytes": min(16, max(1, options.journal_mib // 4)) * MIB,
    }
    seconds, faults = options.minutes * 60, []
    with tempfile.TemporaryDirectory(prefix="prove-pressure-") as directory:
        for name, prove, held_up_s in (
            ("64 connections", over_http, 5.0),
            ("50 producers in the library", in_library, math.inf),
        ):
            data_dir = Path(directory) / "data"
            chosen = Settings(**settings, held_up_s=held_up_s)
            load = Load(chosen, seconds, options.body_bytes, options.write_ms / 1000)
            seen = asyncio.run(prove(data_dir, load))
            print(f"{name}: {seen}", flush=True)
            faults += seen.faults
            shutil.rmtree(data_dir)
    print("\n".join(faults[:50]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
