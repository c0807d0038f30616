"""What a stream's files prove: whole, torn, of another age, or damaged."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from durable_streams.filestore.files import names
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.stream_files import DamagedFiles, LoadedStream, load
from durable_streams.filestore.format import index as index_format
from durable_streams.model.commands import ProducerClaim
from durable_streams.rules.producers import ProducerState
from tests.filestore.files.history import ID, OTHER_ID, TIME_MS, History

OLD = {"p": (1, 0), "q": (3, 4)}


@dataclass
class Home:
    """A stream's directory with two segments: ``one.two.`` and ``three.four.``."""

    directory: Path
    history: History

    def segment(self, number: int) -> Path:
        return self.directory / names.segment_file(number, ID)

    def index(self, number: int) -> Path:
        return self.directory / names.index_file(number, ID)

    def load(self, *, verify: bool = False) -> LoadedStream | None:
        return load(Disk(), self.directory, verify=verify)

    def tail(self, *, verify: bool = False) -> tuple[int, int]:
        loaded = self.load(verify=verify)
        assert loaded is not None
        return loaded.tail.segment, loaded.tail.position


@pytest.fixture
def home(tmp_path: Path) -> Home:
    history = History()
    created = history.create(b"one.")
    history.append(b"two.", producer=ProducerClaim("p", 1, 0), stream_seq="05")
    first = history.index
    history.append(b"three.", roll=True)
    history.append(b"four.", producer=ProducerClaim("p", 1, 1))
    home = Home(tmp_path, history)
    (tmp_path / names.SIDECAR).write_bytes(created.sidecar)
    home.segment(0).write_bytes(history.segments[0])
    home.index(0).write_bytes(first)
    home.segment(1).write_bytes(history.segments[1])
    home.index(1).write_bytes(history.index)
    return home


def test_a_whole_stream_is_loaded_from_its_last_index(home: Home) -> None:
    loaded = home.load()
    assert loaded is not None
    assert (loaded.tail.segment, loaded.tail.position) == (1, 11)
    assert loaded.tail.stream_seq == "05"
    assert loaded.segments.sizes == (8,)
    assert loaded.producers == {"p": ProducerState(1, 1, TIME_MS)}
    assert loaded.last_append_ms == TIME_MS
    assert loaded.notes == []
    assert not loaded.cut


def old_home(tmp_path: Path, *, lines: int) -> Home:
    """A stream whose second index was begun by version 0.1, with so many lines in it."""
    history = History(version=1)
    created = history.create(b"one.")
    history.append(b"two.", producer=ProducerClaim("p", 1, 0), time_ms=TIME_MS + 5)
    history.append(b"two.", producer=ProducerClaim("q", 3, 4), time_ms=TIME_MS + 7)
    for _ in range(100):
        history.append(b".", time_ms=TIME_MS + 8)
    history.append(b"two.", time_ms=TIME_MS + 9)
    home = Home(tmp_path, history)
    home.index(0).write_bytes(history.index)
    history.append(b"three.", roll=True, time_ms=TIME_MS + 60)
    producer = ProducerClaim("r", 0, 0)
    history.append(b"four.", producer=producer, forgot=["p"], time_ms=TIME_MS + 70)
    (tmp_path / names.SIDECAR).write_bytes(created.sidecar)
    for number in (0, 1):
        home.segment(number).write_bytes(history.segments[number])
    home.index(1).write_bytes(b"".join(history.index.splitlines(keepends=True)[: 1 + lines]))
    return home


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("lines", [0, 1, 2])
def test_producers_of_format_1_count_from_the_last_append_of_the_segment_before(
    tmp_path: Path, lines: int, *, verify: bool
) -> None:
    """However much of their own index is there, and whenever it is read."""
    loaded = old_home(tmp_path, lines=lines).load(verify=verify)
    assert loaded is not None
    assert (loaded.tail.segment, loaded.notes == []) == (1, lines == 2)
    known = {name: ProducerState(*state, TIME_MS + 9) for name, state in OLD.items()}
    if lines == 2:
        del known["p"]
        known["r"] = ProducerState(0, 0, TIME_MS + 70)
    assert loaded.producers == known


def test_what_does_not_tell_when_producers_of_format_1_appended_is_damage(tmp_path: Path) -> None:
    home = old_home(tmp_path, lines=2)
    text = home.index(0).read_bytes()
    home.index(0).write_bytes(text.replace(b'"time":%d' % (TIME_MS + 9), b'"tome":%d' % TIME_MS))
    with pytest.raises(
        DamagedFiles, match=r"0-.*\.idx: the line that ends at byte \d+ tells no time"
    ):
        home.load()


def test_producers_are_as_the_opening_and_the_lines_behind_it_say(home: Home) -> None:
    home.history.append(
        b"five.", producer=ProducerClaim("q", 0, 0), forgot=["p"], time_ms=TIME_MS + 3
    )
    home.index(1).write_bytes(home.history.index)
    home.segment(1).write_bytes(home.history.segments[1])
    loaded = home.load()
    assert loaded is not None
    assert loaded.producers == {"q": ProducerState(0, 0, TIME_MS + 3)}


def test_no_sidecar_is_no_stream(home: Home) -> None:
    (home.directory / names.SIDECAR).unlink()
    assert home.load() is None


def test_a_stream_without_appends_has_only_a_sidecar(home: Home) -> None:
    for number in (0, 1):
        home.segment(number).unlink()
        home.index(number).unlink()
    assert home.tail() == (0, 0)


@pytest.mark.parametrize("size", range(11))
def test_a_segment_that_ends_early_ends_the_stream_at_an_append(home: Home, size: int) -> None:
    home.segment(1).write_bytes(home.segment(1).read_bytes()[:size])
    loaded = home.load()
    assert loaded is not None
    assert loaded.tail.position == (6 if size >= 6 else 0)
    assert any("its segment ends before" in note for note in loaded.notes)
    assert loaded.producers == {"p": ProducerState(1, 0, TIME_MS)}


def test_an_index_cut_anywhere_ends_the_stream_at_an_append(home: Home) -> None:
    text = home.index(1).read_bytes()
    first_line = text.index(b"\n") + 1
    second_line = text.index(b"\n", first_line) + 1
    for size in range(len(text)):
        home.index(1).write_bytes(text[:size])
        expected = (0, 8) if size < first_line else (1, 0) if size < second_line else (1, 6)
        assert home.tail() == expected, size


def test_bytes_without_an_index_line_are_left_out(home: Home) -> None:
    home.segment(1).write_bytes(home.segment(1).read_bytes() + b"five.")
    loaded = home.load()
    assert loaded is not None
    assert loaded.tail.position == 11
    assert loaded.notes == ["5 bytes of segment 1 have no index line"]


@pytest.mark.parametrize("missing", ["segment", "index"])
def test_later_segments_do_not_count_without_those_before(home: Home, missing: str) -> None:
    getattr(home, missing)(0).unlink()
    loaded = home.load()
    assert loaded is not None
    assert (loaded.tail.segment, loaded.tail.position) == (0, 0)
    assert any("left out" in note or "ends before" in note for note in loaded.notes)


def test_a_sealed_segment_that_is_too_short_ends_the_stream_in_it(home: Home) -> None:
    home.segment(0).write_bytes(b"one.t")
    loaded = home.load()
    assert loaded is not None
    assert (loaded.tail.segment, loaded.tail.position) == (0, 4)
    assert any("left out" in note for note in loaded.notes)


def test_files_of_another_stream_are_not_looked_at(home: Home) -> None:
    (home.directory / names.index_file(2, OTHER_ID)).write_bytes(b"nonsense")
    (home.directory / "notes.txt").write_bytes(b"somebody's")
    assert home.tail() == (1, 11)


def test_an_index_of_another_age_is_left_out(home: Home) -> None:
    other = History()
    other.append(b"another beginning")
    other.append(b"x", roll=True)
    home.index(1).write_bytes(other.index)
    loaded = home.load()
    assert loaded is not None
    assert (loaded.tail.segment, loaded.tail.position) == (0, 8)
    assert any("do not continue" in note for note in loaded.notes)


def rewritten(home: Home, number: int, line: int, change: Callable[[bytes], bytes]) -> None:
    lines = home.index(number).read_bytes().split(b"\n")
    lines[line] = change(lines[line])
    home.index(number).write_bytes(b"\n".join(lines))


@pytest.mark.parametrize(
    ("number", "line", "told"),
    [(1, 0, "line 1"), (1, 1, "line 2"), (1, 2, "line 3"), (0, 0, "line 1")],
)
def test_a_whole_line_that_fails_its_checksum_is_damage(
    home: Home, number: int, line: int, told: str
) -> None:
    rewritten(home, number, line, lambda text: text.replace(b"e", b"f", 1))
    with pytest.raises(DamagedFiles, match=told):
        home.load()


def sealed(text: bytes) -> Callable[[bytes], bytes]:
    """A line with a right checksum and wrong content."""
    return lambda _: text.rstrip(b"\n")


def test_an_opening_of_another_segment_is_damage(home: Home) -> None:
    opening, _ = index_format.pack_opening(bytes(8), 7, (8, 1), {}, None)
    rewritten(home, 1, 0, sealed(opening))
    with pytest.raises(DamagedFiles, match="is of segment 7"):
        home.load()


def test_an_opening_that_names_no_previous_segment_is_damage(home: Home) -> None:
    opening, _ = index_format.pack_opening(bytes(8), 1, None, {}, None)
    rewritten(home, 1, 0, sealed(opening))
    with pytest.raises(DamagedFiles, match="names no previous segment"):
        home.load()


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b'{"version":1}', b"\xff\xff"])
def test_an_unreadable_sidecar_is_damage(home: Home, text: bytes) -> None:
    (home.directory / names.SIDECAR).write_bytes(text)
    with pytest.raises(DamagedFiles, match=r"meta\.json"):
        home.load()


def test_wrong_bytes_are_found_when_a_stream_is_verified(home: Home) -> None:
    home.segment(1).write_bytes(b"three.f0ur.")
    assert home.tail() == (1, 11)
    loaded = home.load(verify=True)
    assert loaded is not None
    assert loaded.cut
    assert (loaded.tail.segment, loaded.tail.position) == (1, 6)


def test_wrong_bytes_of_a_sealed_segment_end_a_verified_stream_there(home: Home) -> None:
    home.segment(0).write_bytes(b"one.tw0.")
    loaded = home.load(verify=True)
    assert loaded is not None
    assert loaded.cut
    assert (loaded.tail.segment, loaded.tail.position) == (0, 4)


def test_a_line_that_fails_its_checksum_ends_a_verified_stream(home: Home) -> None:
    rewritten(home, 1, 2, lambda text: text.replace(b"e", b"f", 1))
    loaded = home.load(verify=True)
    assert loaded is not None
    assert loaded.cut
    assert (loaded.tail.segment, loaded.tail.position) == (1, 6)


def test_a_sound_stream_is_not_cut_when_verified(home: Home) -> None:
    loaded = home.load(verify=True)
    assert loaded is not None
    assert not loaded.cut
    assert (loaded.tail.segment, loaded.tail.position) == (1, 11)
