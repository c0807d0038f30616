"""What was read from a pipe and may not be stored yet, on this machine's disk.

A directory for each program that appends to one stream at a time::

    LOCK            flock'ed by that program
    WHOSE.json      which stream it is for, and the id of the producer, which stays
    00000007.in     what was read, byte for byte
    00000007.cut    {"epoch": 3, "first": 120, "how": "lines", "pipe": "14:2203"}
                    120 4711 2a33b1c0           append 120 ends at byte 4711, and the CRC-32 of it

*Every byte that left the pipe is in a file*: the kernel moves it (``splice``), and no kill comes
between.  (From what is no pipe, or where there is no such call, it is read and written: a kill
between these loses it.)  *An append is sent when its line is durable*, and so are its bytes: what
is sent again has the same number and the same bytes, and a server takes each number once.

A file is removed when all of its appends are acknowledged; nothing says which of them are.  Those
of the files that a start finds are sent again, in order, before what the pipe has.  What of the
last file is in no append yet was never sent, and is cut anew.  Each run begins an epoch, unless it
goes on with the same pipe (a FIFO, or one whose other end lived on).

Blocking code: a sync takes milliseconds, and there is nothing else to do meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

from durable_streams.model.commands import ProducerClaim
from durable_streams.shell.cutting import PART_OF_A_LINE, Cutter, Input
from durable_streams.shell.spool_files import moved, synced, written
from durable_streams.shell.waiting import READ_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

SPOOL_BYTES: Final = 64 * 1024 * 1024
_FILES: Final = 8
"""Into how many files what may wait is divided: each is freed as a whole."""

_MOST_AT_ONCE: Final = 64
"""Programs of one user that append to one stream on one machine; the next is refused."""

_LINE: Final = re.compile(rb"(\d{1,18}) (\d{1,18}) ([0-9a-f]{8})")


class NoSpool(Exception):
    """There is no place to keep what is read; the text is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One append: who makes it, with which number, and what is sent."""

    claim: ProducerClaim | None
    body: bytes
    file: int = 0


@dataclass(slots=True)
class _File:
    """A file of what was read; ``ends``: of its appends; ``left``: how many of them are open.

    ``looked_to``: up to where nothing more becomes an append, which lines that are left out may be.
    """

    number: int
    epoch: int
    first: int
    fd: int
    cut_fd: int
    size: int = 0
    ends: list[int] = field(default_factory=list)
    left: int = 0
    looked_to: int = 0

    @property
    def cut_to(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def uncut(self) -> int:
        return self.size - self.looked_to


def home() -> Path:
    """Where all spools are: the XDG directory for state."""
    given = os.environ.get("XDG_STATE_HOME")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".local" / "state"
    return base / "durable-streams" / "append"


def spools_of(place: str, path: str) -> Path:
    """Where those for one stream are."""
    key = hashlib.sha256(f"{place}\n{path}".encode()).hexdigest()[:24]
    return home() / key


def claimed(place: str, path: str, max_bytes: int) -> list[Spool]:
    """One that is free, first, made if need be; then others nobody uses, with something in them."""
    top = spools_of(place, path)
    found: list[Spool] = []
    try:
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(_MOST_AT_ONCE):
            directory = top / str(number)
            if found and not directory.exists():
                return found
            spool = _opened(directory, place, path, max_bytes)
            if spool is None:
                continue
            if found and not spool.has_leftovers:
                spool.close()
                continue
            found.append(spool)
    except (OSError, ValueError, KeyError) as error:
        for spool in found:
            spool.close()
        said = getattr(error, "strerror", None) or f"something in it is none of ours ({error})"
        raise NoSpool(
            f"what is read cannot be kept in {top}: {said}; set XDG_STATE_HOME to a directory that "
            "can be written, or say --no-spool"
        ) from error
    if not found:
        raise NoSpool(f"{_MOST_AT_ONCE} programs append to this stream already: see {top}")
    return found


def _opened(directory: Path, place: str, path: str, max_bytes: int) -> Spool | None:
    """The spool in a directory; None if another program has it."""
    directory.mkdir(exist_ok=True, mode=0o700)
    lock_fd = os.open(directory / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock_fd)
        return None
    try:
        return Spool(directory, lock_fd, _whose(directory, place, path), max_bytes)
    except BaseException:
        os.close(lock_fd)
        raise


def _whose(directory: Path, place: str, path: str) -> str:
    """The id of the producer, which is drawn by chance once."""
    file = directory / "WHOSE.json"
    with suppress(FileNotFoundError):
        found: dict[str, Any] = json.loads(file.read_bytes())
        return str(found["id"])
    producer = f"append-{secrets.token_hex(8)}"
    written(file, json.dumps({"id": producer, "streams": place, "path": path}).encode() + b"\n")
    return producer


class Spool:
    """One of them, locked."""

    def __init__(self, directory: Path, lock_fd: int, producer: str, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.how = Input.RAW
        self._lock_fd = lock_fd
        self._producer = producer
        self._file_bytes = max(2 * len(PART_OF_A_LINE), max_bytes // _FILES)
        self._pipe = ""
        self._cutter = Cutter(self.how, 1)
        self._again: list[Batch] = []
        self._next = 0
        self._files: list[_File] = []
        for path in sorted(directory.glob("[0-9]*.cut")):
            self._files.append(self._read(path))
            self._next = self._files[-1].first + len(self._files[-1].ends)
        self._drop_old_epochs()
        for left in directory.glob("[0-9]*.in"):
            if not left.with_suffix(".cut").exists():
                left.unlink()

    # What a start finds

    def _read(self, path: Path) -> _File:
        """A pair of files, and what of them is an append."""
        head, *lines = path.read_bytes().split(b"\n")
        known: dict[str, Any] = json.loads(head)
        self._pipe = str(known["pipe"])
        self.how = Input(known["how"])
        fd = os.open(path.with_suffix(".in"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        cut_fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        found = _File(int(path.stem), int(known["epoch"]), int(known["first"]), fd, cut_fd)
        found.size = os.fstat(fd).st_size
        good_bytes = len(head) + 1
        for line in lines[:-1]:  # behind the last line break is what was not written whole
            end = _proved(found, line)
            if end is None:
                break
            found.ends.append(end)
            good_bytes += len(line) + 1
        os.ftruncate(cut_fd, good_bytes)
        os.lseek(fd, 0, os.SEEK_END)
        found.left = len(found.ends)
        found.looked_to = found.cut_to
        synced(fd)  # a run that ended before it could do so sent nothing of the last line
        synced(cut_fd)
        return found

    def _drop_old_epochs(self) -> None:
        """Forget files that were removed, and are back as a power cut came before that was durable.

        An epoch begins when nothing is left of the one before.
        """
        old = [file for file in self._files if file.epoch < self._files[-1].epoch]
        self._files = self._files[len(old) :]
        for file in old:
            self._remove(file)

    @property
    def has_leftovers(self) -> bool:
        """Whether something may not be stored yet."""
        return any(file.left or file.uncut for file in self._files)

    @property
    def size_bytes(self) -> int:
        """How much is in it."""
        return sum(file.size for file in self._files)

    def goes_on(self, how: Input, pipe: str) -> bool:
        """Whether it was left while the same was read as now."""
        return self.has_leftovers and self.how is how and bool(pipe) and self._pipe == pipe

    def again(self, batch_bytes: int) -> Cutter:
        """Have what it was left with sent again, before all else."""
        cutter = self._cutter = Cutter(self.how, batch_bytes)
        for file in self._files:
            begin = 0
            for number, end in enumerate(file.ends, file.first):
                body = cutter.body(os.pread(file.fd, end - begin, begin))
                self._again.append(Batch(self._claim(file, number), body, file.number))
                begin = end
        return cutter

    def end_line(self) -> None:
        """What was begun of a line stays one of its own: what would end it is lost."""
        last = self._files[-1]
        if self.how is not Input.LINES or not last.uncut:
            return
        if os.pread(last.fd, 1, last.size - 1) != b"\n":
            last.size += os.write(last.fd, b"\n")

    def renew(self, how: Input, pipe: str, batch_bytes: int) -> Cutter:
        """Begin another epoch; nothing may be left in it."""
        self.how, self._pipe = how, pipe
        self._cutter = Cutter(how, batch_bytes)
        self._begin_file(self._files[-1].epoch + 1 if self._files else 0, 0)
        return self._cutter

    def new_claims(self) -> Iterator[ProducerClaim]:
        """Those of the appends of a run that keeps nothing, behind :meth:`renew`."""
        epoch = self._files[-1].epoch
        return (ProducerClaim(self._producer, epoch, number) for number in count())

    def _begin_file(self, epoch: int, first: int) -> None:
        """Begin a file, and remove all others."""
        old, self._files = self._files, []
        self._next = first
        self._add_file(epoch, number=old[-1].number + 1 if old else 0)
        for file in old:
            self._remove(file)

    # What is read

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return self.size_bytes < self.max_bytes or self._cutter.wants(self.uncut)

    def take(self, fd: int) -> int:
        """Move what there is to read into the file; 0 at its end."""
        file = self._files[-1]
        if file.looked_to >= self._file_bytes:
            file = self._roll(file)
        taken = moved(fd, file.fd, READ_BYTES)
        file.size += taken
        return taken

    def _roll(self, file: _File) -> _File:
        """Go on in a new file, which begins with what is in no append yet.

        That is copied, and therefore only done when as much as a file has is not needed any more.
        """
        rest = PART_OF_A_LINE if self._cutter.is_in_line else b""
        rest += os.pread(file.fd, file.uncut, file.looked_to)
        new = self._add_file(file.epoch, number=file.number + 1, rest=rest)
        os.ftruncate(file.fd, file.cut_to)
        file.size = file.looked_to = file.cut_to
        if not file.left:
            self._files.remove(file)
            self._remove(file)
        return new

    @property
    def uncut(self) -> int:
        """How many bytes are in no append yet."""
        return self._files[-1].uncut

    # What is sent

    @property
    def is_ready(self) -> bool:
        """Whether an append of a run before is to be sent again."""
        return bool(self._again)

    def next(self, *, is_last: bool) -> Batch | None:
        """The next append, durable; None if more has to be read first.

        ``is_last``: nothing more will be.
        """
        if self._again:
            return self._again.pop(0)
        while (file := self._files[-1]).uncut:
            data = os.pread(file.fd, self._cutter.look_at(file.uncut), file.looked_to)
            is_rest = is_last and len(data) == file.uncut
            end, body = self._cutter.cut(data, is_last=is_rest)
            if not end:
                return None
            end += file.looked_to
            if body:
                return self._cut(file, end, body)
            file.looked_to = end
            self._free(file)
        return None

    def _cut(self, file: _File, end: int, body: bytes) -> Batch:
        data = os.pread(file.fd, end - file.cut_to, file.cut_to)
        number = self._next
        synced(file.fd)
        os.write(file.cut_fd, f"{number} {end} {crc32(data):08x}\n".encode())
        synced(file.cut_fd)
        file.ends.append(end)
        file.left += 1
        file.looked_to = end
        self._next += 1
        return Batch(self._claim(file, number), body, file.number)

    def _claim(self, file: _File, number: int) -> ProducerClaim:
        return ProducerClaim(self._producer, file.epoch, number)

    def done(self, batch: Batch) -> None:
        """An append is stored."""
        for file in self._files:
            if file.number == batch.file:
                file.left -= 1
                self._free(file)
                return

    def _free(self, file: _File) -> None:
        """Have room where a file had what is not needed any more."""
        if file.left:
            return
        if file is not self._files[-1]:
            self._files.remove(file)
            self._remove(file)
        elif file.looked_to >= self._file_bytes:
            self._roll(file)

    def finish(self) -> None:
        """All of it is stored, and nothing more is read."""
        self._begin_file(self._files[-1].epoch, self._next)

    def close(self) -> None:
        """Let go of it; what is in it stays."""
        for file in self._files:
            os.close(file.fd)
            os.close(file.cut_fd)
        self._files = []
        os.close(self._lock_fd)

    # Files

    def _add_file(self, epoch: int, *, number: int, rest: bytes = b"") -> _File:
        """Make the next pair of files; it is there when the second one has its name."""
        cut = self.directory / f"{number:08d}.cut"
        written(cut.with_suffix(".in"), rest)
        head = {"epoch": epoch, "first": self._next, "how": self.how.value, "pipe": self._pipe}
        written(cut, json.dumps(head).encode() + b"\n")
        fd = os.open(cut.with_suffix(".in"), os.O_RDWR | os.O_CLOEXEC)
        os.lseek(fd, 0, os.SEEK_END)
        cut_fd = os.open(cut, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        file = _File(number, epoch, self._next, fd, cut_fd, size=len(rest))
        self._files.append(file)
        return file

    def _remove(self, file: _File) -> None:
        cut = self.directory / f"{file.number:08d}.cut"
        cut.unlink()
        cut.with_suffix(".in").unlink()
        os.close(file.fd)
        os.close(file.cut_fd)


def _proved(file: _File, line: bytes) -> int | None:
    """Where an append ends; None if its bytes, or its line, are not as they were written."""
    match = _LINE.fullmatch(line)
    if match is None or int(match[1]) != file.first + len(file.ends):
        return None
    end = int(match[2])
    data = os.pread(file.fd, max(0, end - file.cut_to), file.cut_to)
    return end if f"{crc32(data):08x}".encode() == match[3] else None
