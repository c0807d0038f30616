"""What the lines of an index are, walked along whole, at every cut and with every bit flipped."""

from __future__ import annotations

import pytest

from durable_streams.filestore.format.index import NewerIndex, Tail, root_of
from durable_streams.filestore.format.index_lines import (
    Appended,
    Damaged,
    Foreign,
    Opened,
    Torn,
    first_line,
    lines_behind,
    stated_ends,
    walk,
)
from durable_streams.filestore.format.proved_end import ProvedEnd
from durable_streams.model.commands import ProducerClaim
from durable_streams.rules.producers import ProducerState
from tests.filestore.files.flips import every_flip
from tests.filestore.files.history import ID, OTHER_ID, TIME_MS, History

ROOT = root_of(ID)


def history() -> History:
    """An index of four lines: an opening, two appends and a close without data."""
    of = History()
    of.append(b"one.", producer=ProducerClaim("p", 1, 0), stream_seq="05")
    of.append(b"two.", producer=ProducerClaim("q", 3, 4), time_ms=TIME_MS + 1)
    of.append(b"", producer=ProducerClaim("r", 0, 0), forgot=["p"], time_ms=TIME_MS + 2, close=True)
    return of


INDEX = history().index
LINES = INDEX.splitlines(keepends=True)
WALKED = list(walk(INDEX))
NEWER = b'{"index":3,"segment":0,"continues":"00","entirely":"different","chain":"00"}\n'


def test_a_walk_tells_of_each_line_which_it_is_and_where() -> None:
    first, *further = WALKED
    assert isinstance(first, Opened)
    assert (first.opening.segment, first.index_position) == (0, len(LINES[0]))
    appends = [found for found in further if isinstance(found, Appended)]
    assert len(appends) == len(further)
    assert [(found.row, found.begin, found.line.end) for found in appends] == [
        (2, 0, 4),
        (3, 4, 8),
        (4, 8, 8),
    ]
    ends = [len(b"".join(LINES[:row])) for row in (2, 3, 4)]
    assert [found.index_position for found in appends] == ends
    assert appends[-1].chain == history().chain


def test_an_empty_index_has_no_lines_and_one_that_is_to_be_opened_is_torn() -> None:
    assert list(walk(b"")) == []
    assert first_line(b"") == Torn(b"", 1, b"")


@pytest.mark.parametrize("size", range(1, len(INDEX)))
def test_what_is_cut_is_torn_wherever_it_is_cut(size: int) -> None:
    text = INDEX[:size]
    whole, rest = text.count(b"\n"), text.rpartition(b"\n")[2]
    found = list(walk(text))
    assert found[:whole] == WALKED[:whole]
    assert [(torn.text, torn.row) for torn in found[whole:] if isinstance(torn, Torn)] == (
        [(rest, whole + 1)] if rest else []
    )
    assert len(found) == whole + bool(rest)


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_a_walk_goes_on_behind_a_line_as_from_the_beginning(lines: int) -> None:
    place = ProvedEnd.behind(_opened(), {}, segment=0)
    for found in WALKED[1:lines]:
        assert isinstance(found, Appended)
        place.take(found)
    text = b"".join(LINES[lines:])
    assert list(lines_behind(text, place.tail, lines + 1)) == WALKED[lines:]


def test_no_flipped_bit_leaves_its_line_whole_and_nothing_behind_it_is_told() -> None:
    for position, damaged in every_flip(INDEX):
        before = INDEX[:position].count(b"\n")
        found = list(walk(damaged))
        assert found[:before] == WALKED[:before]
        assert isinstance(found[before], Damaged | Torn), f"byte {position}"
        assert len(found) == before + 1


def test_only_what_continues_something_else_is_of_another_age() -> None:
    found = first_line(INDEX, root_of(OTHER_ID))
    assert isinstance(found, Foreign)
    assert found.opening == _opened().opening
    assert first_line(INDEX, ROOT) == first_line(INDEX) == _opened()


def test_a_further_line_that_does_not_continue_the_one_before_is_damaged() -> None:
    text = LINES[0] + LINES[2] + LINES[1]
    *_, found = walk(text)
    assert isinstance(found, Damaged)
    assert (found.row, found.text) == (2, LINES[2][:-1])
    assert "does not continue the running checksum" in str(found.error)


def test_a_line_of_a_newer_version_is_told_from_damage() -> None:
    found = first_line(NEWER)
    assert isinstance(found, Damaged)
    assert isinstance(found.error, NewerIndex)


@pytest.mark.parametrize("lines", [1, 2, 3, 4])
def test_a_line_whose_newline_is_another_byte_is_torn_and_says_so(lines: int) -> None:
    *_, found = walk(b"".join(LINES[:lines])[:-1] + b" ")
    assert isinstance(found, Torn)
    assert found.row == lines
    assert found.lacks_only_its_newline()
    *_, found = walk(b"".join(LINES[:lines])[:-2])
    assert isinstance(found, Torn)
    assert not found.lacks_only_its_newline()


def test_what_lines_state_is_what_a_walk_finds() -> None:
    appends = [found for found in WALKED if isinstance(found, Appended)]
    ends, chains = stated_ends(INDEX)
    assert ends == [found.line.end for found in appends]
    assert chains == b"".join(found.chain for found in appends)


def test_the_lines_add_up_to_the_end_of_the_stream() -> None:
    producers = {"p": ProducerState(0, 9, 0), "s": ProducerState(2, 2, 0)}
    end = ProvedEnd.behind(_opened(), producers, segment=0)
    assert end.tail == Tail(0, 0, len(LINES[0]), _opened().chain) == _opened().tail
    for found in WALKED:
        if isinstance(found, Appended):
            end.take(found)
    closed_by = ProducerClaim("r", 0, 0)
    tail = Tail(
        0, 8, len(INDEX), history().chain, closed=True, closed_by=closed_by, stream_seq="05"
    )
    assert end.tail == tail
    assert end.time_ms == TIME_MS + 2
    assert end.producers == {
        "q": ProducerState(3, 4, TIME_MS + 1),
        "r": ProducerState(0, 0, TIME_MS + 2),
        "s": ProducerState(2, 2, 0),
    }


def _opened() -> Opened:
    found = WALKED[0]
    assert isinstance(found, Opened)
    return found
