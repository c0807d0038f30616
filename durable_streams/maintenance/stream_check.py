"""Check one stream: every line of its indexes and every byte of its segments.

Where ``filestore.files.stream_files`` reads as little as a server needs, this reads
everything, by the same rules: what ends early is torn, what later files prove to have been there is
missing, what is there and fails a checksum is damage.  It stops at the first of them: nothing
behind that is proved.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, assert_never

from durable_streams.filestore.files import names, whole_files
from durable_streams.filestore.files.fork_marks import unpack_mark
from durable_streams.filestore.files.missing import Missing, files_of, what_is_missing
from durable_streams.filestore.files.segment_reader import SegmentReader
from durable_streams.filestore.files.stream_files import (
    DamagedFiles,
    NewerFiles,
    is_still_there,
    lacks_sidecar,
    load_sidecar,
)
from durable_streams.filestore.format.index import NewerIndex
from durable_streams.filestore.format.index_lines import (
    Appended,
    Damaged,
    Foreign,
    Opened,
    Torn,
    first_line,
    lines_behind,
)
from durable_streams.filestore.format.proved_end import ProvedEnd
from durable_streams.maintenance.findings import Checked, Finding, Level, refused
from durable_streams.model.paths import path_text
from durable_streams.model.tokens import parse_offset

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.files.disk import Disk
    from durable_streams.filestore.files.missing import Files
    from durable_streams.filestore.format.index import Opening
    from durable_streams.filestore.format.sidecar import Sidecar
    from durable_streams.model.paths import StreamPath


class _Stop(Exception):
    """The stream is proved up to here only; ``torn``: why, unless something is missing."""

    def __init__(self, torn: Finding | None = None) -> None:
        super().__init__()
        self.torn = torn


class StreamCheck:
    """The check of one stream's directory; ``sidecar`` and ``end`` tell what was proved.

    ``path``: the stream's, None where its directory has the name of none; ``stream``: its text.
    ``sidecar`` is None where it is missing or damaged; nothing else can be checked then.
    ``incomplete``: what is gone, not reported yet, as the journal may have it; ``missing``: the
    same for the storage, None for a sidecar.  ``owners``: ids of the streams it is about.
    ``refusal``: why it could not be looked at.
    """

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        path: StreamPath | None,
        report: Callable[[Finding], None],
    ) -> None:
        self._disk = disk
        self._directory = directory
        self.path = path
        self.stream = "" if path is None else path_text(path)
        self._report = report
        self._reading = directory
        self.sidecar: Sidecar | None = None
        self.end = ProvedEnd()
        self.is_damaged = False
        self.incomplete: Finding | None = None
        self.missing: Missing | None = None
        self.owners: set[str] = set()
        self.refusal: OSError | None = None

    def run(self, checked: Checked) -> None:
        """Check everything; ``checked`` is counted up."""
        checked.streams += 1
        try:
            self._run(checked)
            gone = self.incomplete is not None and self._is_gone()
        except OSError as error:
            gone = self._is_gone()
            if not gone:
                self.refusal = error
                file = Path(error.filename) if error.filename else self._reading
                self._report(refused(file, error, self.stream))
        if gone:  # deleted meanwhile, by a server
            checked.streams -= 1
            self.incomplete = None

    def _is_gone(self) -> bool:
        try:
            return not self._disk.is_directory(self._directory)
        except OSError:
            return False

    def _run(self, checked: Checked) -> None:
        self._reading = self._directory / names.SIDECAR
        try:
            self.sidecar = load_sidecar(self._disk, self._directory)
        except DamagedFiles as error:
            text = str(error).partition(": ")[2]
            self._damage(self._reading, "", text, "the stream answers 500")
            return
        if self.sidecar is None:
            self._look_for_owners()
            return
        self.owners = {self.sidecar.id}
        self.end.segment = self.sidecar.first
        self.end.chain = bytes.fromhex(self.sidecar.root)
        self._follow(self.sidecar, checked)
        self._look_at_the_rest(self.sidecar)

    def _look_for_owners(self) -> None:
        """Whether there are files of a stream that had a sidecar."""
        self.owners = lacks_sidecar(self._disk, self._directory)
        if self.owners:
            text = "it is gone, though segments of a stream are there"
            self._incomplete(self._reading, text, "the stream answers 404")
        else:
            self._torn(self._directory, "", "there is no sidecar, so it is no stream")

    # -- findings --------------------------------------------------------------------------

    def _torn(self, file: Path, place: str, text: str) -> None:
        self._report(Finding(Level.TORN, file, text, place, self.stream))

    def _incomplete(self, file: Path, text: str, meaning: str) -> None:
        self.incomplete = Finding(Level.INCOMPLETE, file, text, "", self.stream, meaning)

    def _damage(self, file: Path, place: str, text: str, meaning: str) -> None:
        self.is_damaged = True
        self._report(Finding(Level.DAMAGE, file, text, place, self.stream, meaning))

    # -- the chain of files ----------------------------------------------------------------

    def _file(self, number: int, kind: str) -> Path:
        assert self.sidecar is not None
        name = names.segment_file if kind == "seg" else names.index_file
        return self._directory / name(number, self.sidecar.id)

    def _follow(self, sidecar: Sidecar, checked: Checked) -> None:
        files = files_of(self._disk, self._directory, sidecar.id)
        number, torn, stopped = sidecar.first, None, False
        try:
            while (number, "idx") in files:
                self._reading = self._file(number, "idx")
                data = whole_files.read_file(self._disk, self._reading) or b""
                self._segment(sidecar, number, data, checked)
                number += 1
        except _Stop as stop:
            torn, stopped = stop.torn, True
        if not self.is_damaged and self._is_something_missing(sidecar, files):
            return
        if torn is not None:
            self._report(torn)
        last = max((other for other, _ in files), default=-1)
        if last >= number and not stopped:
            text = f"segments from {number} on do not continue the stream"
            self._torn(self._file(last, "seg"), "", text)

    def _is_something_missing(self, sidecar: Sidecar, files: Files) -> bool:
        end, disk = self.end, self._disk
        missing = what_is_missing(disk, self._directory, sidecar.id, end.tail, files)
        if missing is None or not is_still_there(disk, self._directory, sidecar.id):
            return False
        self.missing = missing
        meaning = f"the stream ends at {end.offset}, and offsets behind that are given again"
        self._incomplete(self._directory / missing.file, missing.text, meaning)
        return True

    def _segment(self, sidecar: Sidecar, number: int, data: bytes, checked: Checked) -> None:
        """One segment and its index; raises :class:`_Stop` where the stream ends for good."""
        file = self._file(number, "idx")
        self._open(sidecar, number, data)
        lines = lines_behind(data[self.end.index_position :], self.end.tail)
        torn: Torn | None = None
        self._reading = segment_file = self._file(number, "seg")
        with SegmentReader(self._disk, segment_file) as segment:
            for found in lines:
                match found:
                    case Appended():
                        self._append(found, segment, number)
                        checked.appends += 1
                    case Damaged():
                        self._damage_of_line(file, found.row, str(found.error))
                    case Torn():
                        torn = found
                    case _:
                        assert_never(found)
            checked.data_bytes += self.end.position
            if segment.size > self.end.position:
                extra = segment.size - self.end.position
                place = f"byte {self.end.position}"
                self._torn(segment_file, place, f"{extra} bytes have no index line")
        if torn is not None:
            self._torn_line(file, torn)

    def _open(self, sidecar: Sidecar, number: int, data: bytes) -> None:
        """The first line of an index, against everything before it."""
        file, end = self._file(number, "idx"), self.end
        breaks = f"the stream cannot be read from {end.offset} on"
        first = first_line(data, end.chain)
        match first:
            case Torn():
                self._torn_line(file, first)
                raise _Stop
            case Damaged(error=NewerIndex() as error):
                raise NewerFiles(file, str(error))
            case Damaged():
                self._damage(file, "line 1", str(first.error), "the stream answers 500")
                raise _Stop
            case Opened() | Foreign():
                opening = first.opening
            case _:
                assert_never(first)
        if isinstance(first, Foreign) or not sidecar.may_say(number, opening.segment):
            told = "it does not continue the stream: of another time"
            raise _Stop(Finding(Level.TORN, file, told, "line 1", self.stream))
        previous = (end.position, end.index_position) if number > sidecar.first else None
        if opening.previous != previous:
            self._damage(file, "line 1", "it names other sizes of the segment before", breaks)
            raise _Stop
        if not self._has_right_producers(sidecar, number, opening):
            self._report(
                Finding(
                    Level.WARNING,
                    file,
                    "its producers are not those of the lines before",
                    "line 1",
                    self.stream,
                    "a producer's retry may be refused, or stored twice",
                )
            )
        producers = opening.known_producers(end.time_ms)
        self.end = ProvedEnd.behind(first, producers, end.time_ms, segment=number)

    def _has_right_producers(self, sidecar: Sidecar, number: int, opening: Opening) -> bool:
        end = self.end
        producers = end.producers
        if opening.index == 1:  # it has no times
            producers = {name: state._replace(time_ms=0) for name, state in producers.items()}
        if (opening.producers, opening.stream_seq) == (producers, end.stream_seq):
            return True
        if sidecar.fork is None:
            return False
        # A fork begins without its source's producers in the piece that its fork point lies in.
        inherited = parse_offset(sidecar.fork.point).segment
        return number <= inherited and not opening.producers and not opening.stream_seq

    def _append(self, found: Appended, segment: SegmentReader, number: int) -> None:
        """One append, whose line continues the chain: its bytes fit its checksum."""
        end, line, row = self.end, found.line, found.row
        file = self._file(number, "seg")
        if line.end < end.position:
            text = "it ends before the line above it"
            self._damage_of_line(self._file(number, "idx"), row, text)
        if line.end > segment.size:
            told = f"it ends before line {row} of its index, which says {line.end} bytes"
            place = f"byte {segment.size}"
            raise _Stop(Finding(Level.TORN, file, told, place, self.stream))
        if not segment.has_bytes_of(found):
            self._damage(
                file,
                f"bytes {end.position} to {line.end}",
                f"they fail the checksum in line {row} of the index",
                f"readers get wrong bytes behind {end.offset}",
            )
            raise _Stop
        end.take(found)

    def _damage_of_line(self, file: Path, row: int, text: str) -> NoReturn:
        meaning = f"the stream answers 500, or ends at {self.end.offset}"
        self._damage(file, f"line {row}", text, meaning)
        raise _Stop

    def _torn_line(self, file: Path, torn: Torn) -> None:
        """The end of an index that is no line: torn, unless only its newline is wrong."""
        place = f"line {torn.row}"
        if torn.lacks_only_its_newline():
            meaning = f"the stream ends at {self.end.offset}"
            self._damage(file, place, "it ends in a byte that is no newline", meaning)
        else:
            self._torn(file, place, "it is torn")

    def _look_at_the_rest(self, sidecar: Sidecar) -> None:
        for name in sorted(self._disk.names(self._directory)):
            parsed = names.parse_file(name)
            if name == names.SIDECAR or (parsed is not None and parsed[1] == sidecar.id):
                continue
            marks = self._directory / name
            if name == names.forks_of(sidecar.id) and self._disk.is_directory(marks):
                self._look_at_marks(marks)
                continue
            level = Level.NOTE if parsed is None else Level.TORN
            text = "it is not a file of this stream"
            self._report(Finding(level, self._directory / name, text, "", self.stream))

    def _look_at_marks(self, marks: Path) -> None:
        """Where the forks are: hints, of which some may be missing or of forks that are gone."""
        for name in sorted(self._disk.names(marks)):
            self._reading = marks / name
            if not names.is_id(name):
                self._report(Finding(Level.NOTE, marks / name, "it is no fork's", "", self.stream))
            elif unpack_mark(name, whole_files.read_file(self._disk, marks / name) or b"") is None:
                text, meaning = "it is unreadable", "the stream may go before this fork of it does"
                self._report(Finding(Level.WARNING, marks / name, text, "", self.stream, meaning))
