"""What is missing from a stream, by the proof of its files that are there.

A segment is begun only when the one before it is written, so any file of a later segment proves
that those before it were whole, and the first line of its index names the sizes that the segment
before and its index had.  Where a stream ends before that, it is *incomplete*: bytes were lost
that were there.  Files that continue another history than the one before them prove nothing.

The files are listed before the stream's end is looked for: beside a server, a segment that is
begun in between proves nothing about what was read before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names
from durable_streams.filestore.files.index_files import chain_at, line_behind, opening_of
from durable_streams.filestore.format.index_lines import Appended

if TYPE_CHECKING:
    from durable_streams.filestore.files.disk import Disk, StrPath
    from durable_streams.filestore.format.index import Opening, Tail

Files = set[tuple[int, str]]
"""Number and kind (``seg`` or ``idx``) of one stream's files."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that is gone or cut.

    ``text``: what is wrong with it.  ``continues``: the chain that the next file that is there
    goes on from, None if that cannot be told.
    """

    file: str
    text: str
    continues: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


def files_of(disk: Disk, directory: StrPath, stream_id: str) -> Files:
    """The segments and indexes that a stream has in its directory."""
    found = map(names.parse_file, disk.names(directory))
    return {(file[0], file[2]) for file in found if file is not None and file[1] == stream_id}


def what_is_missing(
    disk: Disk, directory: StrPath, stream_id: str, end: Tail, files: Files
) -> Missing | None:
    """What is proved to have been behind the end of a stream; ``files``: listed before it."""
    later = {number for number, _ in files if number > end.segment}
    if not later:
        return None
    following = end.segment + 1 if end.index_position else end.segment
    index = names.index_file(following, stream_id)
    opening = opening_of(disk, f"{directory}/{index}")
    if opening is not None:
        return _sealed(disk, directory, stream_id, end, opening) if end.index_position else None
    if max(later) > following:
        state = "is cut" if disk.status(f"{directory}/{index}") else "is gone"
        beyond = min(number for number in later if number > following)
        after = opening_of(disk, f"{directory}/{names.index_file(beyond, stream_id)}")
        text = f"it {state}, though segment {beyond} is there"
        return Missing(index, text, after.continues if after else None)
    behind = line_behind(disk, f"{directory}/{names.index_file(end.segment, stream_id)}", end)
    if isinstance(behind, Appended):
        segment = names.segment_file(end.segment, stream_id)
        status = disk.status(f"{directory}/{segment}")
        text = _lack(status.size_bytes if status else None, None, following)
        return Missing(segment, text)
    return None


def _sealed(
    disk: Disk, directory: StrPath, stream_id: str, end: Tail, opening: Opening
) -> Missing | None:
    """What the segment lacks that another one was begun behind; None if they are strangers."""
    if opening.previous is None:
        return None
    expected = dict(zip(("seg", "idx"), opening.previous, strict=True))
    sizes: dict[str, int | None] = {}
    for kind, name in (("idx", names.index_file), ("seg", names.segment_file)):
        status = disk.status(f"{directory}/{name(end.segment, stream_id)}")
        sizes[kind] = status.size_bytes if status else None
    if (sizes["idx"] or 0) >= expected["idx"]:
        ending = chain_at(disk, directory, stream_id, end.segment, expected["idx"])
        if ending is None or not opening.follows(ending):
            return None
    for kind, name in (("idx", names.index_file), ("seg", names.segment_file)):
        size = sizes[kind]
        if size is None or size < expected[kind]:
            text = _lack(size, expected[kind], end.segment + 1)
            return Missing(name(end.segment, stream_id), text, opening.continues)
    return None


def _lack(size: int | None, expected: int | None, later: int) -> str:
    if size is None:
        return f"it is gone, though segment {later} is there"
    if expected is None:
        return f"it has {size} bytes, fewer than its index says, though segment {later} is there"
    return f"it has {size} of {expected} bytes, though segment {later} is there"
