"""The file of removed paths: read at a start, replaced before the journal forgets a deletion."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.aside import move_aside
from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.disk import FailedSync
from durable_streams.filestore.format.removed import BadRemoved, Removed, pack, unpack

if TYPE_CHECKING:
    from durable_streams.filestore.files.directory import DataDirectory

NAME: Final = "REMOVED.json"

log = logging.getLogger("durable_streams.filestore.files")


def load_removed(directory: DataDirectory) -> Removed:
    """What the file says; nothing if there is none, or if it is damaged: that is moved aside."""
    path = directory.root / NAME
    try:
        data = whole_files.read_file(directory.disk, path)
        return Removed() if data is None else unpack(data)
    except OSError as error:
        log.error("%s", error)
    except BadRemoved as error:
        log.error("%s: %s; it is kept in %s", path, error, move_aside(directory, path))
    log.error("caches may mix up streams removed minutes ago with those made at their paths now")
    return Removed()


def save_removed(directory: DataDirectory, removed: Removed) -> None:
    """Replace the file; it is durable when this returns.  On a full disk the reserve makes room."""
    try:
        _replace(directory, removed)
    except FailedSync:
        raise
    except OSError as error:
        if error.errno not in FULL or not directory.give_up_reserve():
            raise
        _replace(directory, removed)


def _replace(directory: DataDirectory, removed: Removed) -> None:
    directory.check_place()
    fresh = directory.root / f".{NAME}"
    whole_files.write_file(directory.disk, fresh, pack(removed), sync=True)
    directory.disk.rename(fresh, directory.root / NAME)
    directory.disk.sync_directory(directory.root)


def take_up(directory: DataDirectory, found: Removed) -> Removed:
    """What the file says, and what a journal says that will be forgotten; durable then.

    ``found``: what the journal says.
    """
    known = load_removed(directory)
    before = Removed(known.floor, dict(known.paths))
    known.merge(found)
    if known != before:
        try:
            save_removed(directory, known)
        except FailedSync:
            raise
        except OSError as error:
            if error.errno not in FULL:
                raise
            # To have room again the server must start; its first checkpoint writes it down.
            log.error("there is no room to write down which paths were removed: %s", error)
    return known
