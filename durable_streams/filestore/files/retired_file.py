"""``RETIRED.json``: all streams of a data directory were copied, and are served elsewhere.

One line of JSON: ``copied_to``, the name of the store that has them.  Whoever finds the file, even
one that says nothing, serves nothing of the directory.  It is removed by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.files import whole_files
from durable_streams.model.errors import DataDirectoryError

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory

NAME: Final = "RETIRED.json"


class _Retired(msgspec.Struct):
    copied_to: str = "another store"


def retire(directory: DataDirectory, successor: str) -> None:
    """Have no server open a directory any more; durable when this returns."""
    fresh = directory.root / f".{NAME}"
    data = msgspec.json.encode(_Retired(successor)) + b"\n"
    whole_files.write_file(directory.disk, fresh, data, sync=True)
    directory.disk.rename(fresh, directory.root / NAME)
    directory.disk.sync_directory(directory.root)


def check_not_retired(directory: DataDirectory) -> None:
    """:class:`DataDirectoryError` if the streams of a directory are served elsewhere."""
    data = whole_files.read_file(directory.disk, directory.root / NAME)
    if data is None:
        return
    try:
        retired = msgspec.json.decode(data, type=_Retired)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        retired = _Retired()
    raise DataDirectoryError(
        f"{directory.root} is retired: its streams were copied to {retired.copied_to}, which is "
        f"to be served instead; to serve this one again, remove {directory.root / NAME}"
    )
