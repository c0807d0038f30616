"""Which forks of a stream are there now: its marks, each compared with what is at the fork's path.

Blocking code; nothing here changes a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.files.fork_marks import some_marks
from durable_streams.filestore.files.stream_files import DamagedFiles, NewerFiles, load_sidecar
from durable_streams.filestore.format.stored_path import unpack_path

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.model.paths import StreamPath


def living_forks(
    directory: DataDirectory, source: Sidecar, path: StreamPath, most: int
) -> tuple[dict[StreamPath, str], bool]:
    """Paths and ids of the forks of a stream, of so many marks; whether it has more of them.

    ``path``: its own.  A fork is there if its sidecar says so, whatever its other files are.
    """
    home = directory.stream_directory(path)
    marks = dict(some_marks(directory.disk, home, source.id, most + 1, ()))
    marks |= {fork_id: unpack_path(stored) for fork_id, stored in source.forks.items()}
    found = {
        place: fork_id
        for fork_id, place in list(marks.items())[:most]
        if place is not None and _is_there(directory, place, fork_id, source.id)
    }
    return found, len(marks) > most


def _is_there(directory: DataDirectory, path: StreamPath, fork_id: str, source_id: str) -> bool:
    try:
        found = load_sidecar(directory.disk, directory.stream_directory(path))
    except (DamagedFiles, NewerFiles, OSError):
        return True  # as for an ending: who cannot be looked at may be it
    if found is None or found.fork is None:
        return False
    return found.id == fork_id and found.fork.source_id == source_id
