"""Index files that are read a piece at a time tell the same as when they are read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.index_files import each_line_behind
from durable_streams.filestore.format.index import Tail
from durable_streams.filestore.format.index_lines import Opened, first_line, lines_behind
from tests.filestore.files.flips import every_flip
from tests.filestore.files.history import History

if TYPE_CHECKING:
    from pathlib import Path


def index_and_begin() -> tuple[bytes, Tail]:
    """An index of twenty appends, and where the first one begins."""
    history = History()
    for number in range(20):
        history.append(b"x" * number, close=number == 19)
    first = first_line(history.index)
    assert isinstance(first, Opened)
    return history.index, first.tail


@pytest.mark.parametrize("piece_bytes", [1, 7, 120, 500, 1 << 20])
def test_pieces_of_any_size_come_to_the_same(tmp_path: Path, piece_bytes: int) -> None:
    index, begin = index_and_begin()
    path, at = tmp_path / "index", begin.index_position
    cuts = [index[:end] for end in range(at, len(index) + 1, 3)]
    flips = [index[:at] + flipped for _, flipped in every_flip(index[at : at + 400])]
    for text in [index, *cuts, *flips]:
        path.write_bytes(text)
        found = [repr(line) for line in each_line_behind(Disk(), path, begin, piece_bytes)]
        assert found == [repr(line) for line in lines_behind(text[at:], begin)]


def test_one_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(each_line_behind(Disk(), tmp_path / "nothing", Tail(0, 0, 0, b""))) == []


def test_no_more_than_a_piece_is_read_at_a_time(tmp_path: Path) -> None:
    index, begin = index_and_begin()
    (tmp_path / "index").write_bytes(index)
    read: list[int] = []

    class Counted(Disk):
        def pread(self, fd: int, size: int, position: int) -> bytes:
            data = super().pread(fd, size, position)
            read.append(len(data))
            return data

    assert len(list(each_line_behind(Counted(), tmp_path / "index", begin, 300))) == 20
    assert max(read) == 300
