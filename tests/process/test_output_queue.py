"""What is written to a descriptor that is read slowly, late or never."""

from __future__ import annotations

import os
import resource
import threading
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.process import output_queue
from durable_streams.process.output_queue import OutputQueue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE: Final = b"x" * 999 + b"\n"


class Pipe:
    """A pipe whose writing end is a queue's."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.counts: list[int] = []
        self.queue = OutputQueue(self.writer, self._dropped)

    def _dropped(self, count: int) -> None:
        self.counts.append(count)
        self.queue.write(b"dropped %d\n" % count)

    def read_until_done(self) -> bytes:
        """Read until all was written."""
        read: list[bytes] = []

        def drain() -> None:
            while data := os.read(self.reader, 65536):
                read.append(data)

        thread = threading.Thread(target=drain)
        thread.start()
        assert self.queue.flush(60)
        os.close(self.writer)
        thread.join()
        return b"".join(read)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)


def test_everything_is_written_in_the_order_given(pipe: Pipe) -> None:
    lines = [b"%d\n" % number for number in range(1000)]
    for line in lines:
        pipe.queue.write(line)
    assert pipe.read_until_done() == b"".join(lines)
    assert pipe.counts == []


def test_what_nobody_reads_is_bounded_and_what_was_dropped_is_counted_and_told(pipe: Pipe) -> None:
    given = 3 * output_queue.MAX_WAITING_BYTES // len(LINE)
    for _ in range(given):
        pipe.queue.write(LINE)
    assert pipe.queue._waiting_bytes <= output_queue.MAX_WAITING_BYTES
    lines = pipe.read_until_done().splitlines(keepends=True)
    written = lines.count(LINE)
    told = [int(line.split()[1]) for line in lines if line != LINE]
    assert written + sum(told) == given
    assert written * len(LINE) > output_queue.MAX_WAITING_BYTES // 2
    assert pipe.counts == told


def test_one_entry_beyond_the_bound_is_taken_if_nothing_else_waits(pipe: Pipe) -> None:
    large = b"x" * (output_queue.MAX_WAITING_BYTES + 1)
    pipe.queue.write(large)
    assert pipe.read_until_done() == large


def test_waiting_for_a_reader_who_does_not_come_ends(pipe: Pipe) -> None:
    for _ in range(1000):
        pipe.queue.write(LINE)
    assert not pipe.queue.flush(0.01)
    pipe.read_until_done()


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    for _ in range(1000):
        pipe.queue.write(LINE)
    assert pipe.read_until_done() == LINE * 1000


def test_what_a_full_disk_did_not_take_is_told_when_there_is_room(tmp_path: Path) -> None:
    log = tmp_path / "log"
    fd = os.open("/dev/full", os.O_WRONLY)
    queue = OutputQueue(fd, lambda count: queue.write(b"dropped %d\n" % count))
    for _ in range(3):
        queue.write(LINE)
    assert queue.flush(60)
    with log.open("wb") as file:
        os.dup2(file.fileno(), fd)
    queue.write(b"room\n")
    assert queue.flush(60)
    os.close(fd)
    assert log.read_bytes() == b"room\ndropped 3\n"


def test_a_line_behind_one_that_was_cut_begins_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    reader, writer = os.pipe()
    queue = OutputQueue(writer, lambda _count: None)
    queue.write(b"x" * 1_000_000)
    assert os.read(reader, 10) == b"x" * 10
    os.close(reader)  # in the middle of the line
    assert queue.flush(60)
    with log.open("wb") as file:
        os.dup2(file.fileno(), writer)
    queue.write(b"whole\n")
    queue.write(b"next\n")
    assert queue.flush(60)
    os.close(writer)
    assert log.read_bytes() == b"\nwhole\nnext\n"


def test_of_lines_in_one_write_only_those_are_lost_that_were_not_taken(tmp_path: Path) -> None:
    log = tmp_path / "log"
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    with log.open("wb") as file:
        queue = OutputQueue(file.fileno(), lambda count: queue.write(b"dropped %d\n" % count))
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * len(LINE) + 10, limit[1]))
        try:
            for _ in range(4):
                queue.write(LINE)
            assert queue.flush(60)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        queue.write(b"room\n")
        assert queue.flush(60)
    assert log.read_bytes() == LINE + LINE + LINE[:10] + b"\nroom\ndropped 2\n"
