"""Make very many empty streams in a data directory that nobody has open (`scripts/make-streams`).

Each gets the directory that a create would have given it, by the server's own code, but for the
journal, which is there for a crash: after one of this program, remove the data directory.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.directory import DataDirectory
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import root_of
from durable_streams.filestore.format.sidecar import NOTHING_REQUESTED, Sidecar
from durable_streams.filestore.format.stored_path import pack_path
from durable_streams.rules import media_type

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

IN_ONE_NAMESPACE: Final = 1000
_TOLD_EVERY: Final = 100_000


def path_of(number: int, together: int = IN_ONE_NAMESPACE) -> StreamPath:
    """The path of a stream; ``together``: how many are in a namespace, 0 for all."""
    name = f"stream-{number:07}"
    return ("rooms", f"{number // together:05}", name) if together else ("rooms", name)


def make_streams(data_dir: Path, count: int, together: int = IN_ONE_NAMESPACE) -> None:
    """Make streams from number 0 on; those that are there already stay as they are."""
    disk = Disk()
    directory = DataDirectory.open(disk, data_dir)
    try:
        made: set[str] = set()
        for number in range(count):
            _make(directory, path_of(number, together), made)
            if (number + 1) % _TOLD_EVERY == 0:
                print(f"{number + 1} streams", flush=True)
        disk.sync_file_system(directory.root_fd)
    finally:
        directory.close()


def _make(directory: DataDirectory, path: StreamPath, made: set[str]) -> None:
    """Make one; ``made``: namespaces that are there."""
    home = directory.stream_directory(path)
    above = home.rpartition("/")[0]
    if above not in made:
        whole_files.make_directories(directory.disk, Path(above), str(directory.streams))
        made.add(above)
    try:
        directory.disk.make_directory(home)
    except FileExistsError:
        return
    stream_id, now_ms = secrets.token_hex(12), time.time_ns() // 1_000_000
    sidecar = Sidecar(
        id=stream_id,
        path=pack_path(path),
        content_type=media_type.DEFAULT,
        created_ms=now_ms,
        last_use_ms=now_ms,
        root=root_of(stream_id).hex(),
        requested=NOTHING_REQUESTED,
    )
    data = sidecar_format.pack(sidecar)
    whole_files.write_file(directory.disk, Path(home) / names.SIDECAR, data)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/make-streams", description=__doc__)
    parser.add_argument("--streams", type=int, default=1_000_000, help="how many")
    parser.add_argument(
        "--together",
        type=int,
        default=IN_ONE_NAMESPACE,
        help="how many have a namespace to themselves; 0: all are in one",
    )
    parser.add_argument("data_dir", type=Path, help="made if it is not there")
    options = parser.parse_args()
    begin = time.perf_counter()
    make_streams(options.data_dir, options.streams, options.together)
    print(f"{options.streams} streams made in {time.perf_counter() - begin:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
