"""What is taken out of its place: nothing of it goes before it is kept for good."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from durable_streams.filestore.files.writer import StreamWriter
from tests.filestore.files.history import ID, History

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from durable_streams.filestore.files.directory import DataDirectory
    from durable_streams.filestore.files.disk import StrPath
    from tests.filestore.files.staged_disk import StagedDisk


def test_what_is_kept_file_by_file_is_in_the_trash_for_good_before_its_source_goes(
    directory: DataDirectory, disk: StagedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    history, writer = History(), StreamWriter(directory, 64)
    writer.create(history.create(b"one"))
    calls: list[tuple[str, StrPath]] = []

    def note(name: str) -> None:
        call: Callable[[StrPath], None] = getattr(disk, name)

        def noted(path: StrPath) -> None:
            calls.append((name, str(path)))
            call(path)

        monkeypatch.setattr(disk, name, noted)

    note("sync_directory")
    note("remove_directory")
    disk.fail("rename", errno.EXDEV, f"/trash/{ID}", times=1)
    writer.delete(history.delete(), keep=True)
    writer.close()
    synced = calls.index(("sync_directory", str(directory.trash)))
    removed = calls.index(("remove_directory", directory.home_of(history.path)))
    assert synced < removed
