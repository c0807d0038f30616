"""A copier that does everything a copier of a live directory should not.

It lists the directory first and copies later, takes the files in random order, reads a file in
pieces with pauses in between, and passes over what has vanished.  Run as a program, so that it
disturbs the writers as little as ``cp`` does::

    python -m tools.proofs.hostile_copier SOURCE TARGET SEED
"""

from __future__ import annotations

import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

PAUSES_S: Final = 1.5
"""All pauses of a copy together, about."""


def copy(source: Path, target: Path, chance: random.Random) -> None:
    """Copy what is still there when its turn comes."""
    target.mkdir()
    listed = sorted(
        Path(directory, name)
        for directory, directories, files in os.walk(source)  # passes over what has vanished
        for name in directories + files
    )
    chance.shuffle(listed)
    mean_s = PAUSES_S / len(listed)
    for path in listed:
        copied = target / path.relative_to(source)
        with suppress(FileNotFoundError):
            if path.is_dir():
                copied.mkdir(parents=True, exist_ok=True)
            else:
                _copy_file(path, copied, mean_s, chance)


def _copy_file(source: Path, target: Path, mean_s: float, chance: random.Random) -> None:
    with source.open("rb") as reading:
        time.sleep(chance.expovariate(1 / mean_s) / 2)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as writing:
            writing.write(reading.read(chance.choice((1, 100, 5_000, 1_000_000))))
            time.sleep(chance.expovariate(1 / mean_s) / 2)
            while data := reading.read(1024 * 1024):
                writing.write(data)


if __name__ == "__main__":
    copy(Path(sys.argv[1]), Path(sys.argv[2]), random.Random(sys.argv[3]))
