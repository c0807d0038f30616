"""An event loop that ends in the middle, as after a second Ctrl-C."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from durable_streams.filestore.store import FileStore
from durable_streams.model.commands import Append, Create
from durable_streams.rules.media_type import parse
from durable_streams.settings import Settings
from tests.filestore.files.staged_disk import StagedDisk

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_threads_that_have_nobody_to_tell_say_nothing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    disk = StagedDisk()
    loop = asyncio.new_event_loop()
    engine = loop.run_until_complete(FileStore.at(data_dir, Settings(), disk))
    octets = parse("application/octet-stream")
    loop.run_until_complete(engine.create(Create(("a",), octets), b""))
    gate = disk.hold("sync", "journal")
    append = loop.create_task(engine.append(Append(("a",), octets), b"x"))
    loop.run_until_complete(asyncio.to_thread(gate.reached.wait))
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(append, *tasks, return_exceptions=True))
    loop.close()
    gate.open()
    engine.abandon()  # which ends the threads, and all they had to do is done
    assert raised == []
    assert [record for record in caplog.records if record.exc_info] == []
