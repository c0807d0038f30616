"""The spool: what left a pipe has one number for good, whatever a crash leaves of its files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from durable_streams.shell.cutting import LONGEST_LINE_BYTES, Input
from durable_streams.shell.spool import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.shell.spool import Batch, Spool

PLACE = ("http://localhost/v1/stream", "logs/web")
BATCH_BYTES = 10


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where spools are."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


class Pipe:
    """A pipe with something in it."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()

    def into(self, spool: Spool, data: bytes) -> None:
        os.write(self.writes, data)
        taken = 0
        while taken < len(data):
            taken += spool.take(self.reads)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.reads)
    os.close(made.writes)


def begun(
    max_bytes: int = 1000, how: Input = Input.LINES, longest_bytes: int = LONGEST_LINE_BYTES
) -> Spool:
    (spool,) = claimed(*PLACE, max_bytes)
    spool.renew(how, "a pipe", BATCH_BYTES).longest_bytes = longest_bytes
    return spool


def again(how: Input = Input.LINES, longest_bytes: int = LONGEST_LINE_BYTES) -> Spool:
    (spool,) = claimed(*PLACE, 1000)
    assert spool.goes_on(how, "a pipe")
    spool.again(BATCH_BYTES).longest_bytes = longest_bytes
    return spool


def all_of(spool: Spool, *, is_last: bool = False) -> list[Batch]:
    found = []
    while (batch := spool.next(is_last=is_last)) is not None:
        found.append(batch)
    return found


def told(batches: list[Batch]) -> list[tuple[int, int, bytes]]:
    return [(one.claim.epoch, one.claim.seq, one.body) for one in batches if one.claim]


def test_a_crash_sends_the_same_again_and_goes_on_behind_it(pipe: Pipe) -> None:
    spool = begun()
    pipe.into(spool, b"one\ntwo\nthree\nfo")
    sent = told(all_of(spool))
    assert sent == [(0, 0, b"one\ntwo\n"), (0, 1, b"three\n")]
    spool.close()
    spool = again()
    pipe.into(spool, b"ur\n")
    assert told(all_of(spool)) == [*sent, (0, 2, b"four\n")]
    spool.close()


@pytest.mark.parametrize("lost_bytes", [1, 5, 12])
def test_a_line_that_is_not_whole_was_not_sent_and_is_made_anew(
    pipe: Pipe, lost_bytes: int
) -> None:
    spool = begun()
    pipe.into(spool, b"one\ntwo\nthree\n")
    sent = told(all_of(spool))
    (file,) = spool.directory.glob("*.cut")
    spool.close()
    os.truncate(file, file.stat().st_size - lost_bytes)
    spool = again()
    assert told(all_of(spool)) == sent
    spool.close()
    assert told(all_of(again())) == sent


def test_bytes_that_a_power_cut_took_were_not_sent(pipe: Pipe) -> None:
    spool = begun()
    pipe.into(spool, b"one\ntwo\nthree\n")
    assert len(all_of(spool)) == 2
    (file,) = spool.directory.glob("*.in")
    spool.close()
    os.truncate(file, len(b"one\ntwo\nth"))
    spool = again()
    assert told(all_of(spool)) == [(0, 0, b"one\ntwo\n")]
    pipe.into(spool, b"ree\n")
    assert told(all_of(spool)) == [(0, 1, b"three\n")]
    spool.close()


def test_files_are_freed_as_their_appends_are_stored_and_numbers_go_on(pipe: Pipe) -> None:
    spool = begun(max_bytes=80)
    expected = 0
    for number in range(50):
        pipe.into(spool, b"%07d\nx" % number)
        for batch in all_of(spool):
            assert batch.claim is not None
            assert batch.claim.seq == expected
            expected += 1
            spool.done(batch)
        assert spool.has_room
        assert spool.size_bytes < 80
    assert len(list(spool.directory.glob("*.in"))) <= 2
    spool.close()


def test_what_is_full_has_room_when_something_is_stored(pipe: Pipe) -> None:
    spool = begun(max_bytes=80)
    pipe.into(spool, b"%079d\n" % 1)
    room = [spool.has_room]
    for batch in all_of(spool):
        spool.done(batch)
    assert [*room, spool.has_room] == [False, True]
    spool.close()


def test_what_gathered_is_copied_only_when_as_much_was_freed(pipe: Pipe) -> None:
    spool = begun(max_bytes=800)
    for number in range(70):
        pipe.into(spool, b"%09d\n" % number)
    sent = 0
    while (batch := spool.next(is_last=False)) is not None:
        spool.done(batch)
        sent += 1
    (file,) = spool.directory.glob("*.in")
    assert (sent, int(file.stem)) == (70, 7)
    spool.close()


def test_lines_that_are_left_out_are_told_once_and_take_no_room(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = begun(max_bytes=80, how=Input.JSONL)
    for number in range(12):
        pipe.into(spool, b"\n  no %d\n" % number)
        assert spool.next(is_last=False) is None
        assert spool.has_room
        assert not spool.has_leftovers
    assert capsys.readouterr().err.count("a line is left out") == 12
    pipe.into(spool, b"no\n1\n")
    sent = told(all_of(spool))
    assert sent == [(0, 0, b"[1]")]
    spool.close()
    spool = again(Input.JSONL)
    assert told(all_of(spool)) == sent
    spool.close()


@pytest.mark.parametrize("max_bytes", [1, 80, 1000])
def test_a_line_of_json_that_no_server_takes_is_left_out_and_what_follows_is_sent(
    pipe: Pipe, max_bytes: int
) -> None:
    longest, too_long = b'"%048d"' % 1, b'"%049d"' % 2
    given = [b"0", longest, too_long, too_long * 9, b"3", longest]
    spool = begun(max_bytes, Input.JSONL, longest_bytes=50)
    sent = []
    data = b"\n".join(given)
    for begin in range(0, len(data), 7):
        while (batch := spool.next(is_last=False)) is not None:
            spool.done(batch)
            sent.append(batch)
        assert spool.has_room
        pipe.into(spool, data[begin : begin + 7])
    sent += all_of(spool, is_last=True)
    assert [batch.body for batch in sent] == [
        b"[%b]" % data for data in (b"0", longest, b"3", longest)
    ]
    spool.close()


def test_a_crash_within_a_line_that_is_left_out_leaves_it_out(pipe: Pipe) -> None:
    spool = begun(max_bytes=80, how=Input.JSONL, longest_bytes=50)
    pipe.into(spool, b'1\n"%060d' % 2)
    (batch,) = all_of(spool)
    spool.done(batch)
    pipe.into(spool, b'3" 4')
    assert spool.next(is_last=False) is None
    spool.close()
    spool = again(Input.JSONL, longest_bytes=50)
    pipe.into(spool, b"5\n6\n")
    assert told(all_of(spool))[-1] == (0, 1, b"[6]")
    spool.close()


def test_a_run_behind_a_proper_end_begins_an_epoch(pipe: Pipe) -> None:
    spool = begun()
    pipe.into(spool, b"one")
    (batch,) = all_of(spool, is_last=True)
    spool.done(batch)
    spool.finish()
    spool.close()
    spool = begun()
    assert not spool.has_leftovers
    pipe.into(spool, b"two\n")
    assert told(all_of(spool)) == [(1, 0, b"two\n")]
    spool.close()


def test_a_file_of_an_epoch_before_that_a_power_cut_brings_back_is_not_sent(pipe: Pipe) -> None:
    spool = begun()
    pipe.into(spool, b"one\n")
    (batch,) = all_of(spool)
    before = {file: file.read_bytes() for file in spool.directory.glob("[0-9]*")}
    spool.done(batch)
    spool.renew(Input.LINES, "a pipe", BATCH_BYTES)
    pipe.into(spool, b"two\n")
    sent = told(all_of(spool))
    spool.close()
    for file, data in before.items():
        assert not file.exists()
        file.write_bytes(data)
    spool = again()
    assert told(all_of(spool)) == sent == [(1, 0, b"two\n")]
    assert not any(file.exists() for file in before)
    spool.close()


def test_what_a_start_sends_again_is_durable_first(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = begun()
    pipe.into(spool, b"one\n")
    sent = told(all_of(spool))
    spool.close()
    synced: set[int] = set()
    monkeypatch.setattr(
        "durable_streams.shell.spool.synced", lambda fd: synced.add(os.fstat(fd).st_ino)
    )
    spool = again()
    assert synced == {file.stat().st_ino for file in spool.directory.glob("[0-9]*")}
    assert told(all_of(spool)) == sent
    spool.close()


def test_programs_at_the_same_time_have_one_each_and_what_one_left_is_found(pipe: Pipe) -> None:
    first, second = begun(), begun()
    assert first.directory != second.directory
    pipe.into(second, b"left\n")
    second.close()
    third = claimed(*PLACE, 1000)
    assert [spool.directory for spool in third] == [second.directory]
    third[0].close()
    first.close()
    both = claimed(*PLACE, 1000)
    assert [spool.has_leftovers for spool in both] == [False, True]
    for spool in both:
        spool.close()
